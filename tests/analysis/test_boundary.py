"""Decision boundaries against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genplug.figures import Scale
from genplug_analysis.boundary import distance_to, log_odds, roots
from genplug_analysis.drawing import zero_line

MEANS, STDS = (-0.3, 0.4), (0.1, 0.25)


def density(x_ND: Tensor, sigma: float, label: int | None) -> Tensor:
    """Return ln N(x; mean, std^2 + sigma^2) of a class, written down anew."""
    assert label is not None
    variance = STDS[label] ** 2 + sigma**2
    return -0.5 * ((x_ND[:, 0] - MEANS[label]) ** 2 / variance + math.log(2 * math.pi * variance))


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.3, 2.0])
def test_the_boundary_of_unequal_variances_is_where_the_quadratic_says(sigma: float) -> None:
    a, b = (s**2 + sigma**2 for s in STDS)
    m, k = MEANS
    # (x - m)^2 / a + ln a = (x - k)^2 / b + ln b
    quadratic = [1 / a - 1 / b, 2 * (k / b - m / a), m**2 / a - k**2 / b + math.log(a / b)]
    expected = np.sort(np.roots(quadratic).real)
    found = roots(lambda x_N: log_odds(density, x_N[:, None], sigma, 0, 2), -150.0, 150.0)
    assert found.numpy() == pytest.approx(expected, abs=1e-10)


def test_distances_are_to_the_nearest_point_of_the_boundary() -> None:
    x_N = torch.tensor([-1.0, 0.1, 5.0], dtype=torch.float64)
    assert distance_to(x_N, torch.tensor([0.0, 4.0]).double()).tolist() == pytest.approx([1.0, 0.1, 1.0])
    assert bool(distance_to(x_N, torch.empty(0)).isnan().all())


def test_log_odds_are_against_the_most_probable_other_class() -> None:
    heights = torch.tensor([[0.0, 3.0, 1.0]])
    assert log_odds(lambda x, sigma, k: heights[:, k], torch.zeros(1, 1), 0.0, 2, 3).tolist() == [-2.0]


def test_the_drawn_line_lies_on_the_zero_set() -> None:
    plane = Scale(-1.5, 1.5, 0, 100)
    segments = zero_line(lambda x_N2: x_N2.square().sum(1) - 1, plane, plane)
    ends = torch.tensor(segments).reshape(-1, 2)
    assert len(segments) > 100
    assert float((ends.norm(dim=1) - 1).abs().max()) < 1e-3
    length = (torch.tensor(segments)[:, :2] - torch.tensor(segments)[:, 2:]).norm(dim=1).sum()
    assert float(length) == pytest.approx(2 * math.pi, rel=1e-3)
