"""A run whose features are the samples themselves: evaluators are tested on features made to measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from genplug.protocols import EvalInputs
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import ArraySet, SampleSet
from genplug.settings import RunSettings, RuntimeSettings


class Heard:
    """A log that keeps its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def info(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class PlainRun(Run):
    """Features are the samples; `asked` are the outputs that were asked for."""

    asked: list[Any]

    def features(self, samples: SampleSet, extractor: str, output: str | None = None) -> Tensor:
        self.asked.append(output)
        return samples.read(range(len(samples)))


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """Inputs and expected outputs of the reference metrics; not to be written to."""
    return load_file(Path(__file__).parents[1] / "golden" / "metrics_a.safetensors")


@pytest.fixture
def plain() -> PlainRun:
    run = PlainRun(make_accelerator(RunSettings(), RuntimeSettings(device="cpu")), log=Heard())  # type: ignore[arg-type]
    run.asked = []
    return run


@pytest.fixture
def given() -> Callable[..., EvalInputs]:
    def inputs(
        fake: Tensor, real: Tensor | None = None, train: Tensor | None = None, **more: Any
    ) -> EvalInputs:
        sets = [None if t is None else Rows(t) for t in (fake, real, train)]
        assert sets[0] is not None
        return EvalInputs(sets[0], sets[1], sets[2], extractor="some", **more)

    return inputs


class Rows(ArraySet):
    """Points of any values, NaN included, and any count."""

    def __init__(self, samples: Tensor, labels: Tensor | None = None, name: str = "rows") -> None:
        self.samples, self.labels, self.name = samples.to(torch.float32), labels, name
