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
from genplug.errors import ConfigError, NonFiniteError
from genplug.fit import Batch, Rows, StepResult
from genplug.judging import judge
from genplug.parts import Part
from genplug.pools import draw_pool
from genplug.protocols import EvalInputs, NoiseSpec
from genplug.runtime import Run
from genplug.samplesets import Quantised, SampleSet
from genplug.sampling import sample_stage
from genplug.snapshots import Fit, Snapshot
from genplug.specs import EvaluatorSpec
from genplug.stages import write_json
from genplug.training import (
    TensorRows,
    TrainedWeights,
    frozen,
    full_precision,
    real_rows,
    training_key,
    with_weights,
)
from genplug_ddo.config import PAPER_DIMENSION, DdoConfig
from genplug_ddo.loss import ddo_loss
from genplug_ddo.ratio import log_ratio, training_levels
from genplug_irs.rejection import Gate


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

    def _round(self, number: int, reference: Any, run: Run, judge_: Judge) -> list[Candidate]:
        """Train every (alpha, beta) against one reference; return all candidates with scores."""
        data: dict[str, Rows] = {"real": real_rows(run, reference)}
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
            return ddo_step(model, exact, batch, alpha, beta, levels, self.config.reencode)

        return run.fit(name, reference.clone(), step, data, train, key=key, snapshots=every)

    def _beta(
        self, reference: Any, run: Run, data: dict[str, Rows], alpha: float, beta: float, number: int
    ) -> float:
        """Return the beta of a training: as given, by dimension, or adapted to the log-ratio's spread."""
        if self.config.beta_mode == "fixed":
            return beta
        dimension = math.prod(reference.x_shape)
        if self.config.beta_mode == "dimension":
            return beta * PAPER_DIMENSION / dimension
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
        count = len(run.dataset("train")) if self.config.pool < 0 else self.config.pool
        reencode = self.config.reencode

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


class Judge:
    """Scores candidates on selection seeds, against training data: the report sees neither."""

    def __init__(self, config: DdoConfig, run: Run) -> None:
        self.config, self.run = config, run
        entry = run.catalog.get("evaluator", config.select_evaluator)
        spec = entry.spec
        assert isinstance(spec, EvaluatorSpec)
        if config.select not in spec.scores:
            raise ConfigError(
                f"evaluator {spec.name!r} gives {', '.join(spec.scores)}, not {config.select!r}; "
                "set objective.select"
            )
        self.better, self.part = spec.scores[config.select], Part(entry, entry.config_model()())
        self.name = (
            f"{config.select}-{config.select_extractor}" if "features" in spec.inputs else config.select
        )
        self.gate = (
            Gate.of(run, config.reject, config.select_samples, config.select_extractor)
            if config.reject
            else None
        )
        self.worst = -math.inf if self.better == "higher" else math.inf

    def order(self, score: float) -> float:
        """Return a number that is lower for better scores."""
        if isinstance(self.better, (int, float)):
            return abs(score - self.better)
        return score if self.better == "lower" else -score

    def scores(self, generator: Any, label: str) -> tuple[float, ...]:
        """Return the selection score of every block."""
        blocks = range(self.config.select_blocks)
        if self._rejected(generator, label):
            return tuple(self.worst for _ in blocks)
        return tuple(self._score(generator, label, block) for block in blocks)

    def _rejected(self, generator: Any, label: str) -> bool:
        """Sample batch by batch on seeds of their own until the diversity that is asked for is ruled out."""
        if self.gate is None:
            return False
        try:
            test = self.gate(generator, label, block=self.config.select_blocks, prepare=self._quantised)
        except NonFiniteError as error:
            self.run.log.warn(f"{error}; the candidate is out")
            return True
        if test.verdict == "rejected":
            self.run.log.warn(
                f"candidate {label} is out: {test.duplicates} of its first {test.drawn} samples retrieve a "
                f"training image again; objective.reject = {self.config.reject:g} allows {test.allowed}"
            )
        return test.verdict == "rejected"

    def _score(self, generator: Any, label: str, block: int) -> float:
        seeds_N = self.run.seeds("select", self.config.select_samples, block)
        key = {"weights": digest(generator.state_dict())}
        name = f"select/{label.replace('/', '-')}-{block}"
        try:
            samples = sample_stage(self.run, name, generator, seeds_N, key, f"candidate {label}")
        except NonFiniteError as error:
            self.run.log.warn(f"{error}; the candidate is out")
            return self.worst
        train = self.run.dataset("train")
        inputs = EvalInputs(self._quantised(samples), held_out=train, train=train)
        found = judge(self.run, [self.part], [self.config.select_extractor], inputs)
        return found[self.name].value

    def _quantised(self, samples: SampleSet) -> SampleSet:
        levels = getattr(self.run.data, "levels", 256)
        return Quantised(samples, levels) if self.run.settings.quantise and levels < 256 else samples


def ddo_step(
    model: Any,
    reference: Any,
    batch: Batch,
    alpha: float,
    beta: float,
    levels: NoiseSpec | None,
    reencode: bool,
) -> StepResult:
    """Return the DDO loss of a batch of pairs; without a pool, the reference generates its half now."""
    x_real, cond_real = batch.rows["real"]
    if "fake" in batch.rows:
        x_fake, cond_fake = batch.rows["fake"]
    else:
        cond_fake = cond_real
        x_fake = generated(reference, batch.draws.seeds_N, cond_fake, reencode).to(x_real.device)
    cond = Condition.cat([cond_real, cond_fake]) if cond_real is not None and cond_fake is not None else None
    ratio_N = log_ratio(model, reference, torch.cat([x_real, x_fake]), cond, batch.draws, levels)
    real_N, fake_N = ratio_N.chunk(2)
    return ddo_loss(real_N, fake_N, alpha, beta)


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
