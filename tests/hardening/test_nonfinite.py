"""Samples and features that are not finite: named by seed or row, and nothing finished is lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import genplug
from genplug.errors import DataError, NonFiniteError
from genplug.extraction import Want, extract
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import ArraySet
from genplug.sampling import draw
from genplug.settings import RunSettings, RuntimeSettings

BAD = 7


def worker() -> Run:
    settings = RunSettings(batch_size=3)
    return Run(make_accelerator(settings, RuntimeSettings(device="cpu")), settings)


class Spoilt:
    """A sampler whose sample of one seed is not finite."""

    def __init__(self, inner: Any, value: float) -> None:
        self.inner, self.value, self.sigmas = inner, value, inner.sigmas

    def sample(self, denoise: Any, x_T: Tensor, sigmas: Tensor, noise: Any) -> Tensor:
        x = self.inner.sample(denoise, x_T, sigmas, noise)
        x[noise.seeds_N == BAD] = self.value
        return x


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["fake-latent", "fake-points"])
def test_a_sample_that_is_not_finite_names_its_seed(tmp_path: Path, name: str, value: float) -> None:
    """Images too: a NaN must not become a black pixel."""
    generator: Any = genplug.load(name)
    spoilt = generator.replace(sampler=Spoilt(generator.sampler, value))
    with pytest.raises(NonFiniteError, match=f"base: the sample of seed {BAD} is not finite"):
        draw(worker(), spoilt, torch.arange(12), 3, "balanced", tmp_path, "base")
    finished = sorted(path.name for path in tmp_path.iterdir())
    assert finished == ["batch-000000.npz", "batch-000001.npz"]
    draw(worker(), generator, torch.arange(12), 3, "balanced", tmp_path, "base")
    assert len(list(tmp_path.iterdir())) == 4


class Divides:
    fingerprint = "divides"

    def preprocess(self, sample: Tensor) -> Tensor:
        return sample

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        return {"x": 1 / batch}


def test_a_feature_that_is_not_finite_names_its_sample() -> None:
    run = worker()
    run._built["extractor.divides"] = Divides()
    points = torch.ones(8, 2)
    points[5, 1] = 0
    with pytest.raises(DataError, match="divides gives features that are not finite for sample 5 of points"):
        extract(run, ArraySet(points, name="points"), [Want("divides")])
