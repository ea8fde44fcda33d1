"""What the evaluators share: sets by class, scores, and saying in one line why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from genplug.errors import DataError, NonFiniteError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.samplesets import SampleSet, read_all
from genplug_metrics.intervals import Interval
from genplug_metrics.scoring import warn_once

LEVEL = 0.9


def score_of(
    value: float,
    interval: Interval,
    counts: tuple[int, int],
    extra: Mapping[str, Any] | None = None,
    plots: Mapping[str, str] | None = None,
    extractor: str = "",
) -> Score:
    """Return a score on `counts` = (generated, real) samples; a value that is not finite is an error."""
    if not math.isfinite(value):
        raise NonFiniteError(f"a score is {value}; look for broken samples")
    level = "" if interval.kind.startswith("none") else f"{interval.level:.0%} "
    return Score(
        value,
        min(value, interval.low),
        max(value, interval.high),
        level + interval.kind,
        *counts,
        extractor=extractor,
        extra=dict(extra or {}),
        plots=dict(plots or {}),
    )


def left_out(run: Run, name: str, why: str) -> dict[str, Score]:
    """Return no scores, and say once why: the other evaluators of a run go on."""
    warn_once(run, f"{name} is left out: {why}")
    return {}


def held_out_of(inputs: EvalInputs, name: str) -> SampleSet:
    """Return the real samples that no training saw."""
    if inputs.held_out is None:
        raise DataError(f"{name} needs real samples; statistics of them do not serve")
    return inputs.held_out


def rows_of(samples: SampleSet) -> Tensor:
    """Return all samples as float32 ND: points as they are, images flattened in [0, 1]."""
    whole = read_all(samples)
    flat_ND = whole.flatten(1)
    return flat_ND.float() / 255 if whole.dtype == torch.uint8 else flat_ND


def classes_of(*sets: SampleSet | None) -> list[int | None]:
    """Return the classes that all sets have samples of; [None], for one group of all, without labels."""
    there = [samples for samples in sets if samples is not None]
    if any(samples.labels is None for samples in there):
        return [None]
    found = [{int(label) for label in samples.labels.unique()} for samples in there]  # type: ignore[union-attr]
    common = sorted(label for label in set.intersection(*found) if label >= 0)
    return list(common) if len(set.union(*found)) > 1 and common else [None]


def in_class(samples: SampleSet, label: int | None) -> Tensor:
    """Return the rows of a class, int64; all rows for None."""
    if label is None or samples.labels is None:
        return torch.arange(len(samples))
    return (samples.labels == label).nonzero().flatten()


def suffix(label: int | None) -> str:
    """Return what a score of one class has behind its name."""
    return "" if label is None else f"-class-{label}"


def without(x_N: Tensor, rows: Tensor) -> Tensor:
    """Return all rows but those with the given numbers."""
    kept_N = torch.ones(len(x_N), dtype=torch.bool)
    kept_N[rows] = False
    return x_N[kept_N]
