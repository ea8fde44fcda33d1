"""Direct Discriminative Optimization: rounds of self-play against a frozen reference (section 3)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genplug.checkpoints import digest
from genplug.condition import Condition
from genplug.errors import ConfigError
from genplug.fit import Batch, Rows, StepResult
from genplug.pools import draw_pool
from genplug.protocols import NoiseSpec
from genplug.runtime import Run
from genplug.snapshots import Fit, Snapshot
from genplug.stages import write_json
from genplug.training import (
    TensorRows,
    TrainedWeights,
    frozen,
    full_precision,
    training_key,
    with_weights,
)
from genplug_ddo.compute import PAIR, evaluations, plain_training
from genplug_ddo.config import PAPER_DIMENSION, DdoConfig
from genplug_ddo.loss import ddo_loss
from genplug_ddo.ratio import log_ratio, training_levels
from genplug_ddo.rows import null_rows, training_rows, without
from genplug_ddo.selection import Judge


@dataclass(frozen=True)
class Candidate:
    """Weights that a round may end with, read when needed, and their selection scores, one per block."""

    label: str
    round: int
    weights: Callable[[], dict[str, Tensor]]
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """The mean over selection blocks."""
        return statistics.fmean(self.scores)


class Ddo(TrainedWeights):
    """Fine-tune a likelihood model with the discriminator loss, the model being its own discriminator."""

    def __init__(self, config: DdoConfig) -> None:
        self.config = config

    def apply(self, generator: Any, run: Run) -> Any:
        """Return the generator with the best weights of all rounds."""
        if "denoiser" in generator.provides and run.settings.precision != "no":
            raise ConfigError(
                "ddo subtracts nearly equal errors of denoisers, which needs float32; set run.precision=no"
            )
        judge_ = Judge(self.config, run)
        reference = frozen(generator)
        best = Candidate("base", 0, reference.state_dict, judge_.scores(reference, "base"))
        history = [best]
        for number in range(1, self.config.rounds + 1):
            reference = with_weights(generator, best.weights())
            scope = run.within(f"round-{number}", {"reference": digest(reference.state_dict())})
            found = self._round(number, reference, scope, judge_)
            history += found
            winner = min([best, *found], key=lambda c: judge_.order(c.score))
            if winner is best or not self._clearly(winner, best, judge_):
                break
            best = winner
        if run.directory is not None and run.is_main:
            records = [_record(candidate, candidate is best) for candidate in history]
            write_json(run.directory / run.scope / "selection.json", records)
        run.event("selected", label=best.label, score=best.score)
        return with_weights(generator, best.weights())

    def control(self, generator: Any, run: Run) -> Any:
        """Return the generator after plain training for the network passes of all rounds.

        Counted are (`compute`) the pairs of every training, the pool of each round and the samples of
        selection; rounds that an early stop would save count too.
        """
        config = self.config
        return plain_training(generator, run, config.train, self._passes(generator, run), config.uncond_ratio)

    def _passes(self, generator: Any, run: Run) -> int:
        """Return the network passes of all rounds."""
        config, each = self.config, evaluations(generator)
        steps = config.train.steps + (config.adapt_steps if config.beta_mode == "adapt" else 0)
        trainings = config.rounds * len(config.candidates())
        pairs = trainings * steps * config.train.batch_size
        pools = config.rounds * (self._pool_size(run) if config.pool else 0)
        online = 0 if config.pool else pairs
        candidates = 1 + trainings * config.checkpoints
        blocks = config.select_blocks + (1 if config.reject else 0)
        selected = candidates * blocks * config.select_samples
        return PAIR * pairs + each * (pools + online + selected)

    def _pool_size(self, run: Run) -> int:
        return len(run.dataset("train")) if self.config.pool < 0 else self.config.pool

    def _round(self, number: int, reference: Any, run: Run, judge_: Judge) -> list[Candidate]:
        """Train every (alpha, beta) against one reference; return all candidates with scores."""
        data: dict[str, Rows] = {"real": training_rows(run, reference)}
        if self.config.pool != 0:
            data["fake"] = self._pool(number, reference, run)
        found = []
        for at, (alpha, beta) in enumerate(self.config.candidates(), 1):
            beta = self._beta(reference, run, data, alpha, beta, at)
            fit = self._fit(f"fit-{at}", reference, run, data, alpha, beta, self.config.train)
            for snapshot in _choices(fit):
                label = f"round-{number}/fit-{at}/step-{snapshot.step}"
                scores = judge_.scores(with_weights(reference, snapshot.weights()), label)
                title = f"{label}, alpha {alpha:g}, beta {beta:.4g}"
                found.append(Candidate(title, number, snapshot.weights, scores))
        return found

    def _fit(
        self,
        name: str,
        reference: Any,
        run: Run,
        data: dict[str, Rows],
        alpha: float,
        beta: float,
        train: Any,
    ) -> Fit:
        """Train a copy of the reference against it."""
        levels = training_levels(reference, self.config.log_mean, self.config.log_std)
        every = [
            round(train.steps * (i + 1) / self.config.checkpoints) for i in range(self.config.checkpoints)
        ]
        key = {**training_key(run, reference), "alpha": alpha, "beta": beta, "levels": str(levels)}

        exact = full_precision(reference)

        def step(model: Any, batch: Batch) -> StepResult:
            return ddo_step(model, exact, batch, alpha, beta, levels, self.config)

        return run.fit(name, reference.clone(), step, data, train, key=key, snapshots=every)

    def _beta(
        self, reference: Any, run: Run, data: dict[str, Rows], alpha: float, beta: float, number: int
    ) -> float:
        """Return the beta of a training: as given, by dimension, or adapted to the log-ratio's spread."""
        if self.config.beta_mode == "fixed":
            return beta
        if self.config.beta_mode == "dimension":
            return float(beta * PAPER_DIMENSION / math.prod(reference.x_shape))
        train = self.config.train.model_copy(update={"steps": self.config.adapt_steps, "warmup": 0.0})
        curve = self._fit(f"adapt-{number}", reference, run, data, alpha, beta, train).curve()
        tail = curve[-max(1, len(curve) // 5) :]
        spread = statistics.fmean(_spread(p, side) for p in tail for side in ("real", "fake"))
        if not spread > 0:
            raise ConfigError(
                "the log-ratio did not move in adapt_steps; raise train.lr or objective.adapt_steps"
            )
        return 1 / spread

    def _pool(self, number: int, reference: Any, run: Run) -> TensorRows:
        """Draw samples of a round's reference in x-space, kept as a stage."""
        count, reencode = self._pool_size(run), self.config.reencode

        def draw(seeds_N: Tensor, cond: Condition | None) -> Tensor:
            return generated(reference, seeds_N, cond, reencode)

        return draw_pool(run, "pool", reference, count, draw, key={"reencode": reencode}, block=number - 1)

    def _clearly(self, winner: Candidate, best: Candidate, judge_: Judge) -> bool:
        """Return whether a round beat its reference by `patience` standard errors."""
        if not self.config.patience or not all(map(math.isfinite, best.scores)):
            return True
        gains = [judge_.order(b) - judge_.order(w) for w, b in zip(winner.scores, best.scores, strict=True)]
        error = statistics.stdev(gains) / math.sqrt(len(gains))
        return statistics.fmean(gains) > self.config.patience * error


def ddo_step(
    model: Any,
    reference: Any,
    batch: Batch,
    alpha: float,
    beta: float,
    levels: NoiseSpec | None,
    config: DdoConfig,
) -> StepResult:
    """Return the DDO loss of a batch of pairs; without a pool, the reference generates its half now."""
    x_real, cond_real = batch.rows["real"]
    if "fake" in batch.rows:
        x_fake, cond_fake = batch.rows["fake"]
    else:
        cond_fake = cond_real
        x_fake = generated(reference, batch.draws.seeds_N, cond_fake, config.reencode).to(x_real.device)
    null_N = null_rows(batch.draws, config.uncond_ratio)
    cond = None
    if cond_real is not None and cond_fake is not None:
        cond = without(Condition.cat([cond_real, cond_fake]), None if null_N is None else null_N.repeat(2))
    ratio_N = log_ratio(model, reference, torch.cat([x_real, x_fake]), cond, batch.draws, levels)
    real_N, fake_N = ratio_N.chunk(2)
    return ddo_loss(real_N, fake_N, alpha, beta, null_N, config.legacy_null_weight)


@torch.no_grad()
def generated(reference: Any, seeds_N: Tensor, cond: Condition | None, reencode: bool) -> Tensor:
    """Return samples of the reference as x, optionally through the same codec as real ones."""
    x: Tensor = reference.sample_x(seeds_N, cond)
    return reference.encode(reference.decode(x)) if reencode else x


def _spread(point: Mapping[str, float], side: str) -> float:
    """Return the standard deviation of a step's log-ratios, over the rows of all processes."""
    variance = point[f"square_{side}"] - point[f"log_ratio_{side}"] ** 2
    return math.sqrt(max(variance, 0.0))


def _choices(fit: Fit) -> list[Snapshot]:
    """Return one snapshot per step, of the weight average if there is one."""
    last = {snapshot.step: snapshot for snapshot in fit.snapshots}
    return [last[step] for step in sorted(last)]


def _record(candidate: Candidate, chosen: bool) -> dict[str, Any]:
    """Return a candidate as `stages/N-ddo/selection.json` has it; scores that are not finite are null."""
    finite = [score if math.isfinite(score) else None for score in candidate.scores]
    score = candidate.score if None not in finite else None
    named = {"round": candidate.round, "label": candidate.label, "chosen": chosen}
    return {**named, "score": score, "blocks": finite}
