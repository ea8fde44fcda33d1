"""The map of features: components equal numpy's, numbers are those of real data on real data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genplug.protocols import EvalInputs
from genplug.samplesets import ArraySet
from genplug_analysis.config import FeatureMapConfig
from genplug_analysis.feature_map import FeatureMap, between, principal


def features(n: int, seed: int, shrink: float = 1.0) -> tuple[Tensor, Tensor]:
    g, labels = torch.Generator().manual_seed(seed), torch.arange(n) % 3
    centres = torch.tensor([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, -2.0]])
    return centres[labels] + shrink * torch.randn(n, 4, generator=g), labels


class Features:
    """A run that takes samples for their features."""

    seed = 0

    def features(self, samples: Any, extractor: str, output: str | None = None) -> Tensor:
        return samples.samples


def scored(fake: Tensor, labels: Tensor | None) -> dict[str, Any]:
    real, train = (ArraySet(*features(3000, seed), "real") for seed in (1, 2))
    inputs = EvalInputs(ArraySet(fake, labels), held_out=real, train=train, extractor="pixels")
    return FeatureMap(FeatureMapConfig()).evaluate(inputs, Features())  # type: ignore[arg-type]


def test_components_equal_a_singular_value_decomposition() -> None:
    feat_ND = features(200, 0)[0] * torch.tensor([1.0, 2.0, 0.5, 1.5]) + 7
    found = principal(feat_ND)
    centred = feat_ND.double().numpy() - feat_ND.double().numpy().mean(0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ vt[:2].T
    projected = found.project(feat_ND).numpy()
    signs = np.sign((projected * expected).sum(0))
    assert projected == pytest.approx(expected * signs, abs=1e-9)
    assert found.shares_K.tolist() == pytest.approx((s**2 / (s**2).sum())[:2])


def test_real_samples_are_as_tight_and_as_separate_as_real_ones() -> None:
    scores = scored(*features(3000, 4))
    assert scores["centroid-ratio"].value == pytest.approx(1.0, abs=0.04)
    assert scores["separation-gap"].value == pytest.approx(0.0, abs=0.03)


def test_tight_classes_are_seen_as_such_and_mixed_ones_too() -> None:
    tight = scored(*features(300, 5, shrink=0.3))
    assert tight["centroid-ratio"].value == pytest.approx(0.3, abs=0.04)
    assert tight["separation-gap"].value > 0.1
    fake, labels = features(300, 6)
    mixed = scored(fake, labels[torch.randperm(300, generator=torch.Generator().manual_seed(0))])
    assert mixed["centroid-ratio"].value > 1.3
    assert mixed["separation-gap"].value < -0.3


def test_without_labels_there_is_one_class() -> None:
    scores = scored(features(300, 5)[0], None)
    assert scores["separation-gap"].value == 0
    assert scores["centroid-ratio"].value == pytest.approx(1.0, abs=0.06)


def test_the_share_between_groups_is_that_of_an_analysis_of_variance() -> None:
    x_NK = torch.tensor([[0.0], [2.0], [10.0], [12.0]], dtype=torch.float64)
    assert between(x_NK, torch.tensor([0, 0, 1, 1])) == pytest.approx(100 / 104)
    assert between(torch.zeros(4, 1).double(), torch.tensor([0, 0, 1, 1])) == 0
