"""Evaluator `realism-judges`: what classifiers that guided nothing think of generated samples.

Judged by the classifier that guides, guided samples look real: that can be an attack on it. So there are
two more judges (methods of arXiv 2405.18029 and its controls). An independent one never saw a guided
sample: it is trained on training data and on new samples of the base, with other seeds and another
start. A fresh one is trained on training data and on these very samples, a part of which, with held-out
data, it is measured on: its accuracy is 0.5 where nothing tells them apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genplug.checkpoints import digest, load_strict
from genplug.condition import Condition
from genplug.errors import DataError
from genplug.protocols import EvalInputs, Generator, Score
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.samplesets import ArraySet, Quantised, SampleSet, read_all, subsample
from genplug.subsets import ranked
from genplug.training import Network
from genplug_guidance.classifier import Blueprint
from genplug_guidance.classifier_training import classifier_step, real_fake_verdict
from genplug_guidance.gradient_config import RealismJudgesConfig
from genplug_guidance.guides import Guide, known_guide
from genplug_metrics.intervals import wilson
from genplug_metrics.scoring import LEVEL

#: From here on, blocks of selection seeds belong to the judges alone: no objective asks for so many.
_JUDGES_BLOCK = 4000
_FOR_SCALE = 2000  # rows that give mean and standard deviation
_BATCH = 500  # of the base's samples and of judged rows, whatever the run's: judges must not depend on it


class RealismJudges:
    """Fake rates by the guide and by an independent classifier; accuracy of a freshly trained one."""

    def __init__(self, config: RealismJudgesConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `fake-rate-independent`, `fresh-accuracy`, and `fake-rate-guide` where there is a guide."""
        base, train, held_out = inputs.base or inputs.generator, inputs.train, inputs.held_out
        if base is None or train is None or held_out is None:
            raise DataError("realism-judges needs training data, held-out data and the generators")
        least = min(len(inputs.samples), len(train), len(held_out))
        if least < 4:
            raise DataError(f"realism-judges needs at least 4 samples of each set, not {least}")
        bench = Bench(self.config, run, inputs, train)
        found = {"fake-rate-independent": bench.independent(base), "fresh-accuracy": bench.fresh(held_out)}
        guide = known_guide(run, inputs.generator)
        if guide is not None:
            found["fake-rate-guide"] = bench.by_guide(guide)
        return found


@dataclass
class Scaled:
    """Rows in memory, scaled when they are asked for."""

    x: Tensor
    scaled: Callable[[Tensor], Tensor]
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: Tensor, draws: NoiseSource) -> tuple[Tensor, Condition | None]:
        """Return rows, without conditions."""
        return self.scaled(self.x[rows]), None


class Bench:
    """The judges of one sample set."""

    def __init__(self, config: RealismJudgesConfig, run: Run, inputs: EvalInputs, train: SampleSet) -> None:
        self.config, self.run, self.inputs = config, run, inputs
        self.fake, self.real = self._seen(inputs.samples), self._seen(train)
        some = _some(self.real, _FOR_SCALE).double()
        across = (0,) if some.ndim == 2 else (0, 1, 2, 3)
        self.mean = some.mean(across, keepdim=True).float()
        self.std = some.std(across, keepdim=True).clamp(min=1e-6).float()
        self.extractor = (inputs.extractors[0] if inputs.extractors else "") if config.features else ""

    def independent(self, base: Generator) -> Score:
        """Return the share of samples that a judge of the base's samples calls fake."""
        count = len(self.fake) if self.config.samples < 0 else self.config.samples
        fake = self._of_base(base, count)
        real, known, others = self._parts(self.real, fake)
        judge = self._trained("independent", 1, real, known)
        rate, n = self._calls_fake(judge, self.fake), len(self.fake)
        real_out, fake_out = others
        told = {"of_real": self._calls_fake(judge, real_out) / len(real_out)}
        told |= {"of_base": self._calls_fake(judge, fake_out) / len(fake_out)}
        extra = {"called_fake": told, "held_out": [len(real_out), len(fake_out)], "trained_on": len(known)}
        return self._share(rate, n, len(real), extra)

    def fresh(self, held_out: SampleSet) -> Score:
        """Return the accuracy of a judge of these samples, on those it did not see and held-out data."""
        known, other = self._split(self.fake)
        count = min(len(known), len(self.real))
        judge = self._trained("fresh", 2, _some(self.real, count), _some(known, count))
        real_out = self._seen(held_out)
        count = min(len(other), len(real_out))
        real_out, other = _some(real_out, count), _some(other, count)
        right = count - self._calls_fake(judge, real_out) + self._calls_fake(judge, other)
        return self._share(right, 2 * count, count, {"trained_on": len(known)})

    def by_guide(self, guide: Guide) -> Score:
        """Return the share of samples that the guiding classifier calls fake at its best noise level."""
        samples, labels_N = read_all(self.inputs.samples), self.inputs.samples.labels
        fake = sum(
            guide.calls_fake(samples[rows], None if labels_N is None else labels_N[rows])
            for rows in torch.arange(len(samples)).split(_BATCH)
        )
        return self._share(fake, len(samples), 0, {"sigma": guide.sigma})

    def _seen(self, samples: SampleSet) -> Tensor:
        """Return what judges look at, in an order that follows from what the rows hold."""
        samples = subsample(samples, self.config.most, self.run.seed)
        if self.config.features:
            if not self.inputs.extractors:
                raise DataError("realism-judges on features needs an extractor in the run")
            return ranked(self.run.features(samples, self.inputs.extractors[0]))
        x = read_all(samples)
        return ranked(x.flatten(1)).reshape(x.shape)

    def scaled(self, x: Tensor) -> Tensor:
        """Return rows as judges see them: float32 of about unit size, on the run's device."""
        return ((x.float() - self.mean) / self.std).to(self.run.device)

    def _of_base(self, base: Generator, count: int) -> Tensor:
        """Draw new samples of the base, on seeds that nothing else uses, others for each seed block."""
        block = _JUDGES_BLOCK + self.inputs.block

        def drawn(run: Run) -> Tensor:
            with torch.inference_mode():
                parts = [
                    base.sample(seeds_N, base.conditions(seeds_N, run.settings.classes)).cpu()
                    for seeds_N in run.seeds("select", count, block=block).split(_BATCH)
                ]
            samples = ArraySet(torch.cat(parts).clone(), name="base, for the independent judge")
            return self._seen(_rounded(run, samples))

        name = f"realism-judges.base.{digest(base.state_dict())}.{count}.{block}.{self.config.features}"
        result: Tensor = self.run.once(name, drawn)
        return result

    def _parts(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return equally many real and fake rows to train on, and those that are left."""
        (real, real_out), (fake, fake_out) = self._split(real), self._split(fake)
        count = min(len(real), len(fake))
        return _some(real, count), _some(fake, count), (real_out, fake_out)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        order_N = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.run.seed))
        kept = min(max(1, round(self.config.held_out * len(x))), len(x) - 1)
        return x[order_N[kept:]], x[order_N[:kept]]

    def _trained(self, name: str, start: int, real: Tensor, fake: Tensor) -> nn.Module:
        """Train a judge, or find it: it depends on what it is trained on alone."""
        blueprint = Blueprint(self.config.network, tuple(real.shape[1:]), 1)
        key: Mapping[str, Any] = {
            "rows": digest({"real": real, "fake": fake}),
            "network": str(blueprint),
            "train": self.config.train.model_dump(),
            "start": start,
        }
        text = hashlib.sha256(str(sorted(key.items())).encode()).hexdigest()[:16]
        scope = self.run.within("stages/realism-judges", {})
        step = classifier_step(
            real_fake_verdict, lambda draws: torch.zeros(len(draws)).to(draws.seeds_N.device)
        )
        rows = {"real": Scaled(real, self.scaled), "fake": Scaled(fake, self.scaled)}
        network = Network(blueprint.build(self.run.seed + start, self.run.device))
        fit = scope.fit(f"{name}-{text}", network, step, rows, self.config.train, key=key)
        judge = blueprint.build()
        load_strict(judge, fit.last.weights(), "the judge")
        return judge.to(self.run.device)

    @torch.no_grad()
    def _calls_fake(self, judge: nn.Module, x: Tensor) -> int:
        """Return how many rows a judge calls fake."""
        parts = map(self.scaled, x.split(_BATCH))
        return sum(int((judge(part, torch.zeros(len(part)).to(part)) <= 0).sum()) for part in parts)

    def _share(self, count: int, n: int, real: int, extra: Mapping[str, Any]) -> Score:
        interval = wilson(count, n, LEVEL)
        kind = f"{LEVEL:.0%} {interval.kind}, n = {n}"
        told = {"n": n, **extra}
        samples = len(self.inputs.samples)
        return Score(
            count / n, interval.low, interval.high, kind, samples, real, extractor=self.extractor, extra=told
        )


def _without_noise(draws: NoiseSource) -> Tensor:
    return torch.zeros(len(draws), device=draws.seeds_N.device)


def _some(x: Tensor, count: int) -> Tensor:
    """Return so many rows, drawn by a fixed seed."""
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:count]]


def _rounded(run: Run, samples: ArraySet) -> SampleSet:
    """Return samples with the grey levels that the run's data have, as all judged samples come."""
    levels = getattr(run.data, "levels", 256) if run.resolved is not None else 256
    return Quantised(samples, levels) if run.settings.quantise and levels < 256 else samples
