"""What the evaluators share: features of both sides, checks of their counts, scores as core wants them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from genplug.errors import DataError, NonFiniteError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.subsets import ranked
from genplug_metrics.intervals import Interval

LEVEL = 0.9


def generated(inputs: EvalInputs, run: Run, output: str | None = None) -> tuple[Tensor, str]:
    """Return the features of the generated samples, and the extractor's name."""
    if inputs.extractor is None:
        raise DataError("features of the samples are needed; name an extractor")
    return _finite(run, inputs.samples, inputs.extractor, output), inputs.extractor


def both_sides(
    inputs: EvalInputs, run: Run, name: str, least: int, output: str | None = None
) -> tuple[Tensor, Tensor, str]:
    """Return real ND and generated MD features with at least so many rows each, and the extractor's name.

    Rows come by what they hold, so that what is drawn from them does not depend on the order of the samples.
    """
    if inputs.held_out is None:
        raise DataError(f"{name} needs real samples; statistics of them do not serve")
    fake_MD, extractor = generated(inputs, run, output)
    real_ND = _finite(run, inputs.held_out, extractor, output)
    check_counts(name, least, real=len(real_ND), generated=len(fake_MD))
    return ranked(real_ND), ranked(fake_MD), extractor


def _finite(run: Run, samples: SampleSet, extractor: str, output: str | None) -> Tensor:
    """Return features; core has refused those that are not finite, unless they came from elsewhere."""
    feat_ND = run.features(samples, extractor, output)
    if not bool(feat_ND.isfinite().all()):
        row = int((~feat_ND.isfinite()).any(1).nonzero()[0])
        raise NonFiniteError(
            f"features of {samples.name} by {extractor} are not finite in row {row}; leave it out"
        )
    return feat_ND


def training(inputs: EvalInputs, run: Run, name: str) -> Tensor:
    """Return the features of the training samples, ND."""
    if inputs.train is None or inputs.extractor is None:
        raise DataError(f"{name} needs the samples that the generator was trained on")
    return _finite(run, inputs.train, inputs.extractor, None)


@contextmanager
def refusing_as_data(name: str) -> Iterator[None]:
    """Tell users in one line what mathematics refuses of their features."""
    try:
        yield
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None


def check_counts(name: str, least: int, **counts: int) -> None:
    """Refuse sets that are too small for a score, by their names."""
    if min(counts.values()) < least:
        found = " and ".join(f"{count} {side}" for side, count in counts.items())
        raise DataError(f"{name} needs at least {least} samples of each set, not {found}")


def warn_once(run: Run, text: str) -> None:
    """Say something that many evaluations of a run would repeat."""
    run.once(f"warned.{text}", lambda run: run.log.warn(text))


def score(
    name: str,
    value: float,
    interval: Interval,
    counts: tuple[int, int],
    extractor: str,
    extra: Mapping[str, Any],
) -> Score:
    """Return a score on `counts` = (generated, real) samples; a value that is not finite is an error."""
    if not math.isfinite(value):
        raise NonFiniteError(
            f"{name} on features of {extractor} is {value}; look for broken or constant samples"
        )
    kind = interval.kind if interval.kind.startswith("none") else f"{interval.level:.0%} {interval.kind}"
    return Score(value, interval.low, interval.high, kind, *counts, extractor=extractor, extra=dict(extra))
