"""`genplug.meter` gives what `genplug.evaluate` gives, from batches that it forgets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import genplug
from genplug.errors import CapabilityError, DataError
from genplug.samplesets import read_all
from genplug_digits.dataset import Digits

REAL, FAKE = (read_all(Digits().split(name))[:120] for name in ("held-out", "train"))
NAMES: dict[str, Any] = {"evaluators": ["frechet", "prdc"], "extractors": ["pixels"]}


def values(scores: Any) -> dict[str, float]:
    return {name: score.value for name, score in scores.items()}


def test_batches_give_what_the_whole_gives() -> None:
    whole = values(genplug.evaluate(REAL, FAKE, **NAMES))
    meter = genplug.meter(NAMES["evaluators"], real=REAL, extractors=["pixels"])
    for batch in FAKE.split(50):
        meter.update(batch)
    assert values(meter.compute()) == pytest.approx(whole, rel=1e-9)
    both = genplug.meter(NAMES["evaluators"], extractors=["pixels"])
    both.update(FAKE[:70], real=REAL[:30])
    both.update(FAKE[70:].numpy(), real=REAL[30:])  # type: ignore[arg-type]
    assert values(both.compute()) == pytest.approx(whole, rel=1e-9)
    both.update(FAKE[:0])
    both.reset()
    with pytest.raises(DataError, match="nothing to score"):
        both.compute()


def test_real_and_generated_cannot_be_swapped_unseen() -> None:
    meter = genplug.meter(["prdc"], real=REAL, extractors=["pixels"])
    with pytest.raises(DataError, match="was given its real samples when it was made"):
        meter.update(real=REAL)
    with pytest.raises(TypeError):
        meter.update(FAKE, REAL)  # type: ignore[misc]


def test_what_a_meter_cannot_do_is_said_at_once() -> None:
    with pytest.raises(CapabilityError, match="evaluator 'cost' needs generators"):
        genplug.meter(["cost"])
    meter = genplug.meter(["frechet"], extractors=["pixels"])
    with pytest.raises(DataError, match="must be a tensor or a numpy array, not list"):
        meter.update([1, 2])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="must be a tensor or a numpy array, not int"):
        meter.update(5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="neither uint8 images"):
        meter.update(FAKE.float() / 255)
    meter.update(FAKE)
    with pytest.raises(CapabilityError, match="'frechet' needs held_out or statistics, which is not given"):
        meter.compute()
    with pytest.raises(DataError, match="samples of shape"):
        meter.update(torch.zeros(2, 1, 9, 9, dtype=torch.uint8))
