"""The memorisation check on sets whose distances are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Score
from genplug.registry import catalog
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import ArraySet
from genplug.settings import RunSettings, RuntimeSettings
from genplug_diadm.config import MemorisationConfig
from genplug_diadm.memorisation import ratio_of_medians


def scores(samples: Tensor, train: Tensor, held_out: Tensor) -> dict[str, Score]:
    settings = RunSettings()
    run = Run(make_accelerator(settings, RuntimeSettings(device="cpu")), settings, catalog=catalog())
    named = (
        ArraySet(rows, name=name) for rows, name in ((samples, "fake"), (held_out, "held"), (train, "train"))
    )
    fake, held, seen = named
    inputs = EvalInputs(fake, held, seen, extractor="pixels", extractors=("pixels",))
    return MemorisationConfig().build(run).evaluate(inputs, run)


def points(count: int, seed: int) -> Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


def test_fresh_samples_are_as_near_as_held_out_ones() -> None:
    found = scores(points(2000, 0), points(500, 1), points(2000, 2))
    assert found["nearest-ratio"].value == pytest.approx(1, abs=0.1)
    assert found["nearest-ratio"].low < 1 < found["nearest-ratio"].high
    assert found["copies"].value == pytest.approx(0.01, abs=0.006)


def test_copies_are_seen() -> None:
    train = points(500, 1)
    copies = train[:300] + 1e-4 * points(300, 3)
    mixed = torch.cat([copies, points(700, 0)])
    found = scores(mixed, train, points(2000, 2))
    assert found["copies"].value == pytest.approx(0.3 + 0.7 * 0.01, abs=0.01)
    assert scores(copies, train, points(2000, 2))["nearest-ratio"].value < 0.01


def test_samples_far_off_have_a_large_ratio_and_no_copies() -> None:
    found = scores(points(300, 0) + 30, points(500, 1), points(300, 2))
    assert found["nearest-ratio"].value > 50
    assert found["copies"].value == 0


def test_the_ratio_of_medians_and_what_bounds_it() -> None:
    value, interval = ratio_of_medians(torch.full((50,), 3.0), torch.full((50,), 2.0))
    assert value == interval.low == interval.high == 1.5


def test_held_out_copies_of_training_samples_are_refused() -> None:
    train = points(60, 1)
    with pytest.raises(DataError, match="held-out samples are copies of training ones"):
        scores(points(60, 0), train, train.clone())
