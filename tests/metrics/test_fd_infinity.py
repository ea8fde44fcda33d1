"""FD-infinity and the sliced distance: golden data, exact lines, the bias that they remove or lack."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genplug_metrics.fd_infinity import even_sizes, fd_infinity, line
from genplug_metrics.frechet import Gaussian, fit_gaussian, frechet_from_features
from genplug_metrics.sliced import leave_one_out, moments, sliced_wasserstein


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_intercept_and_points_equal_the_golden_ones(golden: dict[str, Tensor]) -> None:
    fake = golden["in/fake"][golden["in/fdinf_perm"]]
    found = fd_infinity(fake, fit_gaussian(golden["in/real"]), golden["in/fdinf_sizes"].tolist())
    assert found.value == pytest.approx(golden["out/fd_infinity"].item(), rel=1e-10)
    torch.testing.assert_close(found.distances_S, golden["out/fdinf_points"], rtol=1e-10, atol=0)


def test_each_point_is_the_distance_of_the_first_rows() -> None:
    x, y = rows(60, 4, 0), rows(40, 4, 1)
    found = fd_infinity(y, fit_gaussian(x), [10, 25, 40])
    expected = [frechet_from_features(x, y[:n]).value for n in (10, 25, 40)]
    assert found.distances_S.tolist() == pytest.approx(expected, rel=1e-10)


def test_the_extrapolation_removes_the_bias_of_few_samples() -> None:
    """The truth is zero: samples and reference have one distribution, the reference exactly."""
    exact = Gaussian(torch.zeros(5, dtype=torch.float64), torch.eye(5, dtype=torch.float64))
    found = [fd_infinity(rows(300, 5, s), exact, even_sizes(60, 300, 8)) for s in range(60)]
    plain = sum(float(one.distances_S[-1]) for one in found) / 60
    assert abs(sum(one.value for one in found) / 60) < 0.2 * plain


def test_a_line_is_found_exactly() -> None:
    intercept, slope = line([0.1, 0.2, 0.5], torch.tensor([3.2, 3.4, 4.0], dtype=torch.float64))
    assert (intercept, slope) == pytest.approx((3, 2), rel=1e-12)


def test_sizes_are_even_distinct_and_end_at_both_ends() -> None:
    assert even_sizes(48, 300, 15) == list(range(48, 301, 18))
    assert even_sizes(2, 5, 15) == [2, 3, 4, 5]


def test_the_sliced_distance_equals_the_golden_one(golden: dict[str, Tensor]) -> None:
    got = sliced_wasserstein(moments(golden["in/real"]), moments(golden["in/fake"]))
    assert got == pytest.approx(golden["out/sw_approx"].item(), rel=1e-12)


def test_moments_of_parts_merge_to_those_of_all_rows() -> None:
    x = rows(50, 6, 0) + 100
    whole, left = moments(x), leave_one_out([moments(part) for part in x.split(13)])
    assert whole.spread == pytest.approx(float((x.double() - x.double().mean(0)).square().mean()), rel=1e-10)
    assert left[1].spread == pytest.approx(moments(torch.cat([x[:13], x[26:]])).spread, rel=1e-10)
    torch.testing.assert_close(left[0].mu_D, x[13:].double().mean(0), rtol=1e-12, atol=0)


def test_the_sliced_distance_is_that_of_many_projections() -> None:
    x, y = rows(4000, 64, 0), rows(4000, 64, 1) * 1.5 + 0.3
    directions = torch.nn.functional.normalize(rows(64, 200, 2), dim=0)
    sliced = ((x @ directions).sort(0).values - (y @ directions).sort(0).values).square().mean().sqrt()
    assert sliced_wasserstein(moments(x), moments(y)) == pytest.approx(float(sliced), rel=0.05)
