"""Condition Contrastive Alignment (Chen et al. 2024, arXiv 2410.09347): negatives without generation.

    L = -ln sigma(beta r(x, c)) - lambda ln sigma(-beta r(x, c'))

r is the log-ratio of the trained model and its frozen reference, c the sample's own label, c' the label
of another training sample. A denoiser has its noise shared by both models and both labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genplug.condition import Condition
from genplug.errors import ConfigError
from genplug.fit import Batch, StepResult
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.training import TrainedWeights, frozen, full_precision, training_key, with_weights
from genplug_ddo.compute import PAIR, plain_training
from genplug_ddo.config import CcaConfig
from genplug_ddo.loss import wins
from genplug_ddo.ratio import log_ratio, training_levels
from genplug_ddo.rows import null_rows, training_rows, without


class Cca(TrainedWeights):
    """Fine-tune a class-conditional model to tell right labels from wrong ones."""

    def __init__(self, config: CcaConfig) -> None:
        self.config = config

    def apply(self, generator: Any, run: Run) -> Any:
        """Return the generator with the last weights of the training, or their average."""
        if "denoiser" in generator.provides and run.settings.precision != "no":
            raise ConfigError(
                "cca subtracts nearly equal errors of denoisers, which needs float32; set run.precision=no"
            )
        config, rows = self.config, training_rows(run, generator)
        assert rows.labels is not None  # training_rows has refused data without labels
        wrong = OtherLabels(rows.labels.unique() if config.train.balance else rows.labels)
        reference = full_precision(frozen(generator))
        levels = training_levels(generator, config.log_mean, config.log_std)

        def step(model: Any, batch: Batch) -> StepResult:
            return cca_step(model, reference, batch, wrong, levels, config)

        fit = run.fit(
            "fit",
            generator.clone(),
            step,
            {"real": rows},
            config.train,
            key={**training_key(run, generator), "levels": str(levels)},
        )
        return with_weights(generator, fit.last.weights())

    def control(self, generator: Any, run: Run) -> Any:
        """Return the generator after plain training for as many network passes."""
        train = self.config.train
        return plain_training(
            generator, run, train, PAIR * train.steps * train.batch_size, self.config.uncond_ratio
        )


@dataclass(frozen=True)
class OtherLabels:
    """Wrong labels: that of another training sample for each row, by the row's own seed.

    The published code takes the label of the next row of a shuffled batch. This is the same draw, but
    does not depend on how a step is split over processes, nor on classes that take turns.
    """

    labels: Tensor

    def __call__(self, draws: NoiseSource) -> Tensor:
        """Return one label per row, int64 N."""
        rows_N = draws.integers(len(self.labels), (len(draws),), "wrong-label")
        return self.labels.to(rows_N.device)[rows_N]


def cca_step(
    model: Any,
    reference: Any,
    batch: Batch,
    wrong: OtherLabels,
    levels: NoiseSpec | None,
    config: CcaConfig,
) -> StepResult:
    """Return the CCA loss of rows under their own and under a wrong label."""
    x, cond = batch.rows["real"]
    assert cond is not None
    assert cond.labels_N is not None
    null_N = null_rows(batch.draws, config.uncond_ratio)
    labels_N, other_N = cond.labels_N, wrong(batch.draws)
    positive_N = labels_N.eq(other_N) if null_N is None else labels_N.eq(other_N) | null_N
    both = without(
        Condition(labels_N=torch.cat([labels_N, other_N])), None if null_N is None else null_N.repeat(2)
    )
    ratio_N = log_ratio(model, reference, torch.cat([x, x]), both, batch.draws, levels)
    own_ratio_N, other_ratio_N = ratio_N.chunk(2)
    return cca_loss(own_ratio_N, other_ratio_N, positive_N, config.weight, config.beta)


def cca_loss(own_N: Tensor, other_N: Tensor, positive_N: Tensor, weight: float, beta: float) -> StepResult:
    """Return the loss of each row divided by max(lambda, 1), and what to log.

    Where the other label is no wrong one (it is the same, or there is none), the second term is a
    second positive of weight 1.
    """
    sign_N = torch.where(positive_N, 1.0, -1.0)
    weight_N = torch.where(positive_N, 1.0, weight)
    loss_own_N = -F.logsigmoid(beta * own_N)
    loss_other_N = -weight_N * F.logsigmoid(beta * sign_N * other_N)
    objective_N = loss_own_N + loss_other_N
    logs = {
        "objective": objective_N,
        "loss_own": loss_own_N,
        "loss_other": loss_other_N,
        "log_ratio_own": own_N,
        "log_ratio_other": other_N,
        "accuracy": (wins(own_N) + wins(sign_N * other_N)) / 2,
    }
    return StepResult(objective_N / max(weight, 1.0), logs)
