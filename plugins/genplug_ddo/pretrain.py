"""Plain training: the generator's own loss on the run's training data."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from torch import Tensor

from genplug.ema import reconstruct, solve_posthoc_coefficients
from genplug.fit import Batch, StepResult
from genplug.runtime import Run
from genplug.snapshots import Fit
from genplug.training import TrainedWeights, training_key, with_weights
from genplug_ddo.config import PretrainConfig
from genplug_ddo.rows import null_rows, training_rows, without


class Pretrain(TrainedWeights):
    """Train a generator and return its last, or a reconstructed, weight average."""

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config

    def apply(self, generator: Any, run: Run) -> Any:
        """Return the trained generator."""
        config = self.config
        every = [round(config.train.steps * (i + 1) / config.snapshots) for i in range(config.snapshots)]
        fit = run.fit(
            "fit",
            generator.clone(),
            functools.partial(pretraining_step, null_share=config.label_dropout),
            {"real": training_rows(run, generator)},
            config.train,
            key=training_key(run, generator),
            snapshots=every,
            dropout=True,
        )
        buffers = [name for name, _ in generator.module.named_buffers()]
        weights = self._posthoc(fit, buffers) if config.posthoc_std else fit.last.weights()
        return self._said(with_weights(generator, weights))

    def restore(self, base: Any, directory: Path, run: Run) -> Any:
        """Return a copy of `base` with the saved weights."""
        return self._said(super().restore(base, directory, run))

    def _said(self, generator: Any) -> Any:
        """Return a generator that says so if it was trained without labels too."""
        return generator.with_unconditional() if self.config.label_dropout else generator

    def _posthoc(self, fit: Fit, buffers: list[str]) -> dict[str, Tensor]:
        """Reconstruct an average of another length from the stored ones (EDM2, section 3)."""
        stored = [snapshot for snapshot in fit.snapshots if snapshot.average not in ("raw", "ema")]
        batch = self.config.train.batch_size
        offsets = [snapshot.step * batch for snapshot in stored]
        stds = [float(snapshot.average) for snapshot in stored]
        target = self.config.posthoc_std
        coefficients = solve_posthoc_coefficients(offsets, stds, fit.last.step * batch, target)[:, 0]
        return reconstruct((snapshot.weights() for snapshot in stored), coefficients.tolist(), buffers)


def pretraining_step(model: Any, batch: Batch, null_share: float = 0.0) -> StepResult:
    """Return the generator's own loss on real rows, per dimension of x; a share of them has no label."""
    x, cond = batch.rows["real"]
    cond = without(cond, null_rows(batch.draws, null_share))
    loss_N = model.training_loss(x, cond, batch.draws) / x[0].numel()
    return StepResult(loss_N, {})
