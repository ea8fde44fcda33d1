"""Frechet distance: golden data, closed forms of Gaussians, deficient rank, streaming."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genplug_metrics.frechet import (
    Gaussian,
    GaussianStats,
    fit_gaussian,
    frechet_distance,
    frechet_from_features,
)


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(width: int, seed: int) -> Tensor:
    A = rows(width, width, seed)
    return A @ A.T / width


def test_distance_and_terms_equal_the_golden_ones(golden: dict[str, Tensor]) -> None:
    d = frechet_from_features(golden["in/real"], golden["in/fake"])
    for value, key in (
        (d.value, "frechet"),
        (d.mean_term, "frechet_mean_term"),
        (d.cov_term, "frechet_cov_term"),
    ):
        assert value == pytest.approx(golden[f"out/{key}"].item(), rel=1e-9)


@pytest.mark.parametrize("name", ["real", "fake"])
def test_moments_equal_the_golden_ones(golden: dict[str, Tensor], name: str) -> None:
    g = fit_gaussian(golden[f"in/{name}"])
    torch.testing.assert_close(g.mu_D, golden[f"out/mu_{name}"], rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(g.cov_DD, golden[f"out/cov_{name}"], rtol=1e-9, atol=1e-13)


def test_rank_deficient_sets_equal_the_golden_distance(golden: dict[str, Tensor]) -> None:
    d = frechet_from_features(golden["in/fd_small_real"], golden["in/fd_small_fake"])
    assert d.value == pytest.approx(golden["out/frechet_small"].item(), rel=1e-12)


def test_rank_deficient_statistics_give_the_same_as_the_rows(golden: dict[str, Tensor]) -> None:
    x, y = golden["in/fd_small_real"], golden["in/fd_small_fake"]
    from_stats = frechet_distance(fit_gaussian(x), fit_gaussian(y)).value
    assert from_stats == pytest.approx(frechet_from_features(x, y).value, rel=1e-12)


@pytest.mark.parametrize(("n", "width"), [(300, 24), (10, 24), (2, 5), (25, 24), (24, 24)])
def test_a_set_has_distance_zero_to_itself(n: int, width: int) -> None:
    assert 0 <= frechet_from_features(rows(n, width, 0), rows(n, width, 0)).value < 1e-9


def test_diagonal_gaussians_have_the_closed_form() -> None:
    s, t = torch.rand(2, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mu, nu = rows(2, 12, 1)
    d = frechet_distance(Gaussian(mu, s.square().diag()), Gaussian(nu, t.square().diag()))
    assert d.value == pytest.approx(float((mu - nu).square().sum() + (s - t).square().sum()), rel=1e-12)


def test_two_dimensional_gaussians_have_the_closed_form() -> None:
    """In two dimensions tr sqrt(P) = sqrt(tr P + 2 sqrt(det P)) for P = S_1 S_2."""
    S, T, zero = covariance(2, 0), covariance(2, 1), torch.zeros(2, dtype=torch.float64)
    P = S @ T
    expected = S.trace() + T.trace() - 2 * (P.trace() + 2 * P.det().sqrt()).sqrt()
    assert frechet_distance(Gaussian(zero, S), Gaussian(zero, T)).value == pytest.approx(
        float(expected), rel=1e-12
    )


def test_a_point_mass_has_the_trace_as_distance() -> None:
    S, zero = covariance(6, 0), torch.zeros(6, dtype=torch.float64)
    d = frechet_distance(Gaussian(zero, S), Gaussian(zero, torch.zeros_like(S)))
    assert d.value == pytest.approx(float(S.trace()), rel=1e-14)


def test_orthogonal_subspaces_keep_both_traces() -> None:
    zero = torch.zeros(4, dtype=torch.float64)
    S = torch.tensor([1.0, 2, 0, 0]).double().diag()
    T = torch.tensor([0.0, 0, 3, 4]).double().diag()
    assert frechet_distance(Gaussian(zero, S), Gaussian(zero, T)).value == pytest.approx(10.0, rel=1e-14)


def test_constant_features_change_nothing() -> None:
    x, y = rows(100, 5, 0), rows(80, 5, 1)
    pad = [torch.cat([t, torch.full((len(t), 3), 2.0, dtype=torch.float64)], 1) for t in (x, y)]
    assert frechet_from_features(*pad).value == pytest.approx(frechet_from_features(x, y).value, rel=1e-11)


def test_the_distance_is_symmetric_and_invariant_under_rotation() -> None:
    x, y, Q = rows(60, 8, 0), rows(50, 8, 1) * 2 + 1, torch.linalg.qr(rows(8, 8, 2)).Q
    d = frechet_from_features(x, y).value
    assert frechet_from_features(y, x).value == pytest.approx(d, rel=1e-12)
    assert frechet_from_features(x @ Q, y @ Q).value == pytest.approx(d, rel=1e-12)


def test_ill_conditioned_covariances_stay_exact() -> None:
    """Variances over 14 decades, where the eigenvalues of the product lose half the digits."""
    s, t = torch.logspace(0, -7, 30, dtype=torch.float64), torch.logspace(-7, 0, 30, dtype=torch.float64)
    zero = torch.zeros(30, dtype=torch.float64)
    d = frechet_distance(Gaussian(zero, s.square().diag()), Gaussian(zero, t.square().diag()))
    assert d.value == pytest.approx(float((s - t).square().sum()), rel=1e-12)


def test_a_factor_squares_to_its_covariance() -> None:
    for g in (fit_gaussian(rows(50, 9, 0)), fit_gaussian(rows(5, 9, 0))):
        torch.testing.assert_close(g.factor @ g.factor.T, g.cov_DD, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cuts", [(1, 2), (50,), (10, 10, 70), (0, 99)])
def test_streaming_equals_one_batch(cuts: tuple[int, ...]) -> None:
    x = rows(100, 7, 0) * 1e-3 + 1e4  # a large mean, where sums of squares would cancel
    stats = GaussianStats(7)
    for part in x.tensor_split(cuts):
        stats.update(part)
    g = stats.finish()
    torch.testing.assert_close(g.mu_D, x.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(g.cov_DD, x.T.cov(), rtol=1e-8, atol=1e-14)


def test_merging_equals_updating() -> None:
    x = rows(60, 5, 0)
    merged = (
        GaussianStats(5)
        .update(x[:20])
        .merge(GaussianStats(5).update(x[20:]))
        .merge(GaussianStats(5))
        .finish()
    )
    torch.testing.assert_close(merged.cov_DD, fit_gaussian(x).cov_DD, rtol=1e-12, atol=1e-14)
    assert merged.n == 60


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rows"):
        fit_gaussian(rows(1, 3, 0))


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        fit_gaussian(torch.tensor([[1.0, torch.nan], [0, 1]]))


def test_different_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="widths differ: 3 and 4"):
        frechet_distance(fit_gaussian(rows(9, 3, 0)), fit_gaussian(rows(9, 4, 0)))


def test_few_rows_need_no_covariance_however_wide_they_are() -> None:
    """150,000 features, as images of 224 pixels have: their covariance would take 168 GiB."""
    wide = 150_000
    base, other = rows(5, 3, 0), rows(4, 3, 1)
    pad = [torch.cat([feat, torch.zeros(len(feat), wide - 3)], 1) for feat in (base, other)]
    expected = frechet_distance(fit_gaussian(base.double()), fit_gaussian(other.double())).value
    assert frechet_from_features(*pad).value == pytest.approx(expected, rel=1e-9)
