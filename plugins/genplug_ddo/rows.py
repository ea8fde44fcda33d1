"""Training rows, and those whose label is dropped so that the branch without labels is trained too."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genplug.condition import Condition
from genplug.errors import CapabilityError
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.training import EncodedRows, real_rows


def training_rows(run: Run, generator: Any) -> EncodedRows:
    """Return the run's training data with labels, refusing a generator that is conditioned on features."""
    if "feature-conditional" in generator.provides:
        raise CapabilityError(
            "training rows have labels or nothing, and the generator is conditioned on features: "
            "train it before diadm, not after"
        )
    return real_rows(run, generator)


def null_rows(draws: NoiseSource, share: float) -> Tensor | None:
    """Return which rows lose their label, bool N, by their own seeds; None for a share of 0."""
    return draws.uniform((len(draws),), "null-label") < share if share else None


def without(cond: Condition | None, null_N: Tensor | None) -> Condition | None:
    """Return labels with -1 in the rows that lose theirs."""
    return cond if cond is None or null_N is None else cond.dropped(null_N)
