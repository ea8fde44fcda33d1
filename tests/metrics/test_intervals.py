"""Intervals: closed forms, coverage by simulation, repeatability."""

from __future__ import annotations

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor

from genplug_metrics.frechet import FewRows, fit_gaussian, frechet_from_features
from genplug_metrics.intervals import (
    bootstrap_mean,
    clopper_pearson,
    difference,
    frechet_jackknife,
    leave_one_out,
    median_interval,
    student_t,
    wilson,
)

SHARES = [(0, 10), (3, 10), (10, 10), (497, 1000), (49_990, 50_000)]


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("method", "name"), [(wilson, "wilson"), (clopper_pearson, "exact")])
@pytest.mark.parametrize(("successes", "n"), SHARES)
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_share_intervals_equal_scipy(method, name: str, successes: int, n: int, level: float) -> None:  # type: ignore[no-untyped-def]
    got = method(successes, n, level)
    expected = stats.binomtest(successes, n).proportion_ci(level, method=name)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5])
def test_clopper_pearson_never_covers_less_than_its_level(p: float) -> None:
    n = 40
    covered = [clopper_pearson(k, n).low <= p <= clopper_pearson(k, n).high for k in range(n + 1)]
    assert sum(stats.binom.pmf(k, n, p) for k in range(n + 1) if covered[k]) >= 0.9


def test_an_impossible_share_is_refused() -> None:
    with pytest.raises(ValueError, match="11 of 10"):
        wilson(11, 10)


def test_the_bootstrap_of_a_mean_has_the_normal_width() -> None:
    x = rows(400, 1, 0)[:, 0]
    interval = bootstrap_mean(x, draws=2000)
    half = 1.645 * float(x.std(correction=0)) / 20
    assert (interval.low, interval.high) == pytest.approx(
        (float(x.mean()) - half, float(x.mean()) + half), abs=0.01
    )


def test_the_same_seed_gives_the_same_interval() -> None:
    x, y = rows(60, 3, 0), rows(50, 3, 1)
    assert bootstrap_mean(x[:, 0], 50, seed=3) == bootstrap_mean(x[:, 0], 50, seed=3)
    assert frechet_jackknife(x, y, 5, seed=3) == frechet_jackknife(x, y, 5, seed=3)
    assert frechet_jackknife(x, y, 5, seed=3) != frechet_jackknife(x, y, 5, seed=4)


def test_leaving_out_a_part_equals_fitting_the_rest() -> None:
    parts = torch.split(rows(30, 4, 0).double(), 10)
    got = list(leave_one_out(parts))
    assert len(got) == 3
    for g, out in enumerate(got):
        rest = fit_gaussian(torch.cat([part for i, part in enumerate(parts) if i != g]))
        torch.testing.assert_close(out.cov_DD, rest.cov_DD, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(out.mu_D, rest.mu_D, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shift", [0.2, 1.0])
def test_the_jackknife_covers_the_mean_distance_of_such_samples(shift: float) -> None:
    """Nominal 0.9; the mean over samples of this size is known from the same 150 pairs, all independent."""
    pairs = [(rows(80, 3, 2 * s), rows(60, 3, 2 * s + 1) * 1.3 + shift) for s in range(150)]
    typical = sum(frechet_from_features(x, y).value for x, y in pairs) / len(pairs)
    intervals = [frechet_jackknife(x, y, 10) for x, y in pairs]
    assert sum(i.low <= typical <= i.high for i in intervals) / len(pairs) >= 0.84


def test_the_jackknife_holds_the_printed_distance() -> None:
    x, y = rows(40, 64, 0), rows(30, 64, 1)  # fewer rows than features
    interval = frechet_jackknife(x, y, 5)
    assert interval.low <= frechet_from_features(x, y).value <= interval.high


def test_too_many_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="20 groups need at least 40 rows"):
        frechet_jackknife(rows(39, 2, 0), rows(99, 2, 1))


@pytest.mark.parametrize("dof", [3, 4, 9, 19, 100])
@pytest.mark.parametrize("p", [0.9, 0.95, 0.975, 0.995])
def test_student_quantiles_are_within_a_percent(p: float, dof: int) -> None:
    assert student_t(p, dof) == pytest.approx(stats.t.ppf(p, dof), rel=0.01)


def test_the_interval_of_a_difference_equals_a_published_one() -> None:
    """Newcombe 1998, table II, method 10: 56/70 - 48/80 at 95 %."""
    a, b = wilson(56, 70, 0.95), wilson(48, 80, 0.95)
    found = difference(a, 56 / 70, b, 48 / 80)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize("n", [5, 10, 101])
def test_the_interval_of_a_median_has_the_binomial_level(n: int) -> None:
    interval = median_interval(torch.arange(1.0, n + 1))
    j = int(interval.low)
    assert interval.high == n + 1 - j
    assert 1 - 2 * stats.binom.cdf(j - 1, n, 0.5) >= 0.9 > 1 - 2 * stats.binom.cdf(j, n, 0.5)


def test_too_few_values_for_a_median_say_their_own_level() -> None:
    interval = median_interval(torch.tensor([3.0, 1.0, 2.0]))
    assert (interval.low, interval.high, interval.level) == (1, 3, 0.75)


@pytest.mark.parametrize("n", [12, 60])
def test_few_rows_and_many_leave_out_the_same(n: int) -> None:
    parts = torch.split(rows(n, 20, 0).double(), n // 6)
    for g, out in enumerate(leave_one_out(parts)):
        rest = fit_gaussian(torch.cat([part for i, part in enumerate(parts) if i != g]))
        assert isinstance(out, FewRows) == (n == 12)
        torch.testing.assert_close(out.factor @ out.factor.T, rest.cov_DD, rtol=1e-11, atol=1e-13)
