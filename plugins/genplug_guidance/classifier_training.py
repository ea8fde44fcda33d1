"""Training a classifier of noised x, and measuring it on rows that its training did not see.

A classifier sees x + sigma * noise at the levels of `draw_levels`, through the one training loop. What
it is worth is measured per noise bin: every held-out row once in each, at a level drawn within it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug.checkpoints import digest, load_strict
from genplug.condition import Condition
from genplug.errors import ConfigError, DataError
from genplug.fit import Batch, Rows, StepResult
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.stages import write_json
from genplug.training import EncodedRows, Network, training_key
from genplug_guidance.classifier import Blueprint, real_logit
from genplug_guidance.gradient_config import ClassifierConfig
from genplug_guidance.vp_time import TIME_RANGE, sigma_of_time
from genplug_metrics.intervals import wilson

#: Together, the intervals of all noise bins hold with this probability.
LEVEL = 0.95
MEASURE = "accuracy.json"
MOST_ROWS = 5000  # held-out rows of a source that are looked at
_BATCH = 512  # of them at a time

#: Options on which a classifier depends; the others say how it guides.
_LEARNT = {"classifier", "network", "train", "levels", "level_range", "held_out", "bins"}
_LEARNT |= {"pool", "reencode", "per_class"}

#: Returns a loss and whether the row was classified rightly, N each, of logits and conditions by source.
Verdict = Callable[[Tensor, Mapping[str, Condition | None]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Band:
    """What a classifier is worth at noise levels from `low` to `high`, on n held-out rows.

    [`accuracy_low`, `accuracy_high`] is a binomial interval; those of all bins hold together.
    """

    low: float
    high: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    cross_entropy: float
    n: int


@dataclass(frozen=True)
class Measured:
    """The bins of a classifier, from low noise to high, and the accuracy of guessing."""

    bands: tuple[Band, ...]
    chance: float

    @property
    def best(self) -> Band:
        """The bin with the highest accuracy."""
        return max(self.bands, key=lambda band: band.accuracy)

    @property
    def at_chance(self) -> bool:
        """True if no bin's accuracy is above chance beyond its interval."""
        return all(band.accuracy_low <= self.chance for band in self.bands)

    def edges(self) -> tuple[float, ...]:
        """Return the edges of the bins in sigma, ascending."""
        return (self.bands[0].low, *(band.high for band in self.bands))

    def beating(self, margin: float) -> tuple[bool, ...]:
        """Return for each bin whether its accuracy beats chance by a margin."""
        return tuple(band.accuracy >= self.chance + margin for band in self.bands)

    def record(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"chance": self.chance, "bands": [asdict(band) for band in self.bands]}

    @staticmethod
    def of(record: Mapping[str, Any]) -> Measured:
        """Return what `record` gave."""
        return Measured(tuple(Band(**band) for band in record["bands"]), record["chance"])


@dataclass(frozen=True)
class Task:
    """What a classifier learns: rows by source, all of which one forward sees, and how it is judged.

    `chance` is the accuracy of the best guess without looking, on the held-out rows.
    """

    train: Mapping[str, Rows]
    held_out: Mapping[str, Rows]
    verdict: Verdict
    chance: float
    key: Mapping[str, Any]


def sharing(run: Run, generator: Any, config: ClassifierConfig) -> Run:
    """Return a run whose stages all objectives share that train the same classifier: a swept scale's."""
    key = {
        **training_key(run, generator),
        "from": run.key.get("from"),
        "noise": str(generator.noise),
        "options": config.model_dump(include=_LEARNT),
    }
    return run.shared("classifier", key)


def data_rows(run: Run, generator: Any, labelled: bool) -> EncodedRows:
    """Return the run's training data as rows for a classifier, refusing data that do not fit."""
    data = run.dataset("train")
    if labelled and data.labels is None:
        raise DataError(f"the classifier needs labels; {data.name} has none")
    shape = tuple(generator.encode(data.read([0]).to(run.device)).shape[1:])
    if shape != tuple(generator.x_shape):
        raise DataError(f"{data.name} has x of shape {shape}; the generator works on {generator.x_shape}")
    return EncodedRows(data, generator.encode, labelled)


class SomeRows:
    """Some rows of other rows."""

    def __init__(self, whole: Rows, index_N: Tensor) -> None:
        self.whole, self.index_N = whole, index_N
        self.labels = None if whole.labels is None else whole.labels[index_N]

    def __len__(self) -> int:
        return len(self.index_N)

    def batch(self, rows: Tensor, draws: NoiseSource) -> tuple[Tensor, Condition | None]:
        """Return x and conditions of rows."""
        return self.whole.batch(self.index_N[rows], draws)


def split_rows(rows: Rows, share: float, seed: int) -> tuple[SomeRows, SomeRows]:
    """Return rows to train on and a share to measure on, drawn by a seed; at least one row each."""
    if len(rows) < 2:
        raise DataError(f"a classifier needs at least 2 rows, one of them held out, not {len(rows)}")
    order_N = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    kept = min(max(1, round(share * len(rows))), len(rows) - 1)
    return SomeRows(rows, order_N[kept:].sort().values), SomeRows(rows, order_N[:kept].sort().values)


def train_classifier(
    run: Run, blueprint: Blueprint, task: Task, config: ClassifierConfig, noise: NoiseSpec
) -> nn.Module:
    """Return a trained network, as a stage of the run."""
    levels = level_options(config, noise)
    step = classifier_step(task.verdict, lambda draws: draw_levels(levels, noise, draws))
    network = Network(blueprint.start(run.seed, run.device))
    key = {**task.key, "network": str(blueprint), "levels": levels, "noise": str(noise)}
    fit = run.fit("classifier", network, step, task.train, config.train, key=key)
    module = blueprint.build(run.seed)
    load_strict(module, fit.last.weights(), "the classifier")
    return module.to(run.device)


def classifier_step(
    verdict: Verdict, levels: Callable[[NoiseSource], Tensor]
) -> Callable[[Any, Batch], StepResult]:
    """Return a step that noises rows of every source alike and asks the network once for all."""

    def step(model: Any, batch: Batch) -> StepResult:
        loss_N, right_N = judged(model.module, batch, levels(batch.draws), verdict)
        return StepResult(loss_N, {"accuracy": right_N.float()})

    return step


def judged(network: nn.Module, batch: Batch, sigma_N: Tensor, verdict: Verdict) -> tuple[Tensor, Tensor]:
    """Return loss and hits of the rows of all sources, each with noise of its own at one level."""
    x = [
        x + sigma_N.reshape(-1, *(1 for _ in x.shape[1:])) * batch.draws.normal(x.shape, f"noise-{name}")
        for name, (x, _) in batch.rows.items()
    ]
    logits_NK = network(torch.cat(x), sigma_N.repeat(len(x)))
    return verdict(logits_NK.float(), {name: cond for name, (_, cond) in batch.rows.items()})


def level_options(config: ClassifierConfig, noise: NoiseSpec) -> dict[str, Any]:
    """Return how training levels are drawn, as plain data."""
    if config.levels == "generator":
        return {"kind": "generator"}
    if config.levels == "vp":
        low, high = (sigma_of_time(time) for time in TIME_RANGE)
    else:
        low, high = config.level_range or (noise.sigma_min, noise.sigma_max)
    return {"kind": "uniform", "low": low, "high": high}


def draw_levels(levels: Mapping[str, Any], noise: NoiseSpec, draws: NoiseSource) -> Tensor:
    """Return one noise level per row: as the generator was trained, or uniform in ln sigma.

    The importance sampling of discriminator guidance, with density beta(t) / (1 - exp(-B(t))) in its time
    t, B the integral of beta, is uniform in ln sigma too: sigma^2 = exp(B) - 1.
    """
    if levels["kind"] == "generator":
        return noise.draw(draws)
    low, high = math.log(levels["low"]), math.log(levels["high"])
    return (low + (high - low) * draws.uniform((len(draws),), "sigma")).exp()


def measure(run: Run, module: nn.Module, task: Task, noise: NoiseSpec, bins: int) -> Measured:
    """Return what a classifier is worth on held-out rows, measured once and kept as a stage."""
    edges = torch.linspace(math.log(noise.sigma_min), math.log(noise.sigma_max), bins + 1).exp().tolist()
    level = 1 - (1 - LEVEL) / bins  # Bonferroni

    def work(partial: Path) -> None:
        bands = tuple(_band(run, module, task, low, high, level) for low, high in pairwise(edges))
        if run.is_main:
            write_json(partial / MEASURE, Measured(bands, task.chance).record())

    key = {**task.key, "weights": digest(module.state_dict()), "edges": edges}
    directory = run.stage("accuracy", key, work)
    return Measured.of(json.loads((directory / MEASURE).read_text(encoding="utf-8")))


@torch.no_grad()
def _band(run: Run, module: nn.Module, task: Task, low: float, high: float, level: float) -> Band:
    """Measure one noise bin."""
    losses, hits = [], []
    count = min(MOST_ROWS, *map(len, task.held_out.values()))
    levels = {"kind": "uniform", "low": low, "high": high}
    for rows_N in torch.arange(count).split(_BATCH):
        draws = NoiseSource(run.seeds("select", count)[rows_N], run.device, salt=f"measure-{low:.6g}")
        rows = {name: _on(run, source.batch(rows_N, draws)) for name, source in task.held_out.items()}
        sigma_N = draw_levels(levels, NoiseSpec(), draws)
        loss_N, right_N = judged(module, Batch(rows, draws, 0), sigma_N, task.verdict)
        losses.append(loss_N.cpu())
        hits.append(right_N.cpu())
    n, right = sum(map(len, hits)), int(torch.cat(hits).sum())
    interval = wilson(right, n, level)
    return Band(low, high, right / n, interval.low, interval.high, float(torch.cat(losses).mean()), n)


def _on(run: Run, row: tuple[Tensor, Condition | None]) -> tuple[Tensor, Condition | None]:
    x, cond = row
    return x.to(run.device), cond.to(run.device) if cond is not None else None


def class_verdict(logits_NK: Tensor, conds: Mapping[str, Condition | None]) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy in nats and whether the label came out, N each."""
    cond = conds["real"]
    if cond is None or cond.labels_N is None:
        raise DataError("a class classifier is trained on labels")
    return F.cross_entropy(logits_NK, cond.labels_N, reduction="none"), logits_NK.argmax(1) == cond.labels_N


def real_fake_verdict(logits_NK: Tensor, conds: Mapping[str, Condition | None]) -> tuple[Tensor, Tensor]:
    """Return the binary cross-entropy in nats and whether real was told from fake, N each."""
    real, fake = (conds[name] for name in ("real", "fake"))
    cond = Condition.cat([real, fake]) if real is not None and fake is not None else None
    logit_N = real_logit(logits_NK, cond)
    is_real_N = torch.arange(len(logit_N), device=logit_N.device) < len(logit_N) // 2
    loss_N = F.binary_cross_entropy_with_logits(logit_N, is_real_N.to(logit_N), reduction="none")
    return loss_N, (logit_N > 0) == is_real_N


def check_worth(run: Run, measured: Measured, force: bool) -> None:
    """Refuse a classifier that is at chance, unless forced; record what it is worth.

    Raises:
        ConfigError: no noise bin's accuracy is above chance beyond its interval.
    """
    best = measured.best
    text = (
        f"accuracy {best.accuracy:.3f} in [{best.accuracy_low:.3f}, {best.accuracy_high:.3f}] at its best "
        f"noise levels, n = {best.n}, chance {measured.chance:.3f}"
    )
    run.event("classifier", at_chance=measured.at_chance, forced=force, best=text, **measured.record())
    if not measured.at_chance:
        return
    if not force:
        raise ConfigError(
            f"the classifier is at chance on held-out rows ({text}); train it longer, take another "
            "objective.network or more data, or guide by it all the same with objective.force=true"
        )
    run.log.warn(f"the classifier is at chance on held-out rows ({text}); forced")
