"""The law of K: against integers, against its recursion, and in no time at the size of ImageNet."""

from __future__ import annotations

import math
import random
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from genplug_irs import occupancy, stirling
from genplug_irs import statistics as irs
from genplug_irs.occupancy import Observation, Window
from genplug_irs.recursion import RecursiveObservation, recursive_law

sys.path.insert(0, str(Path(__file__).parent))
from irs_exact import big_stirling2, exact_p, stirling2

SMALL = [(N, n) for N in (1, 2, 3, 7, 12) for n in (1, 2, 5, 9, 14)]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 14, 31])
def test_every_probability_equals_integers_for_s_from_one_to_a_billion(n: int) -> None:
    for s in (1, 2, 3, 5, 8, 13, 30, 1000, 10**9):
        law = occupancy.pmf(n, s)
        exact = [float(exact_p(k, n, s)) for k in range(1, min(n, s) + 1)]
        assert law.first == 1
        assert law.p.tolist() == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(("n", "k", "s"), [(3000, 2855, 30_000), (3000, 1900, 3000), (3000, 2500, 8000)])
def test_three_thousand_draws_equal_integers(n: int, k: int, s: int) -> None:
    exact = Fraction(big_stirling2(n, k) * math.perm(s, k), s**n)
    assert float(Window(n, k, k).p(s)[0]) == pytest.approx(float(exact), rel=1e-13)


@pytest.mark.parametrize(("n", "s"), [(700, 300), (3000, 50), (3000, 30_000), (12_000, 9000)])
def test_the_law_equals_its_recursion(n: int, s: int) -> None:
    first, p = recursive_law(n, s, 1e-40)
    mine = torch.from_numpy(Window(n, first, first + len(p) - 1).p(s))
    seen = p > 1e-15 * p.max()
    torch.testing.assert_close(mine[seen], p[seen], rtol=2e-12, atol=0)
    assert float(mine.sum()) == pytest.approx(1, abs=1e-12)


def test_a_wider_window_and_finer_nodes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(40, 20), (5000, 4990), (5000, 3000), (5000, 20), (200_000, 150_000)]
    before = [float(Window(n, k, k).log_t[0]) for n, k in cases]
    monkeypatch.setattr(occupancy, "ROOM", 500)
    assert [float(Window(n, k, k).log_t[0]) for n, k in cases] == pytest.approx(before, abs=1e-13)


@pytest.mark.parametrize(("n", "k"), [(9, 4), (14, 13), (14, 14), (14, 1), (12, 2)])
def test_log_p_and_tails_equal_exact_integers_for_every_s(n: int, k: int) -> None:
    seen = Observation(k, n)
    for s in (k, k + 1, 20, 100, 1000):
        assert seen.log_p(s) == pytest.approx(math.log(exact_p(k, n, s)), abs=1e-11)
        at_most = float(sum(exact_p(j, n, s) for j in range(1, k + 1)))
        at_least = float(sum(exact_p(j, n, s) for j in range(k, n + 1)))
        assert (seen.p_at_most(s), seen.p_at_least(s)) == pytest.approx((at_most, at_least), rel=1e-11)


def test_sequences_are_counted() -> None:
    assert occupancy.sequences(9, 4) == [stirling2(9, k) * math.perm(4, k) for k in range(10)]


def test_fewer_items_than_seen_are_impossible() -> None:
    seen = Observation(5, 9)
    assert (seen.log_p(4), seen.p_at_least(4), seen.p_at_most(4)) == (-math.inf, 0.0, 1.0)


@pytest.mark.parametrize(("N", "n"), SMALL)
def test_estimate_and_bounds_equal_exact_search(N: int, n: int) -> None:
    alpha = Fraction(1, 20)
    for k in range(1, min(n, N) + 1):
        scan = range(k, N + 1)
        likelihood = [exact_p(k, n, s) for s in scan]
        low = [s for s in scan if sum(exact_p(j, n, s) for j in range(k, n + 1)) > alpha]
        high = [s for s in scan if sum(exact_p(j, n, s) for j in range(1, k + 1)) > alpha]
        reach = irs.estimate_reach(k, n, N)
        assert reach.s_hat == scan[likelihood.index(max(likelihood))]
        assert (reach.s_low, reach.s_high) == (min(low, default=N), max(high))


def test_bounds_equal_the_recursion_to_the_last_integer() -> None:
    """Random counts between the plausible ends, for errors from 5 % to 0.1 %."""
    draw = random.Random(0)
    for n, N in ((60, 400), (900, 700), (1500, 40_000), (2500, 64_000)):
        for _ in range(6):
            s = draw.randint(N // 20, N)
            k = min(n, s, max(1, round(s * irs.coupon_expected_fraction(n, s) * draw.uniform(0.97, 1.03))))
            for alpha_e in (0.05, 0.001):
                exact = irs.bounds(RecursiveObservation(k, n), N, alpha_e)
                assert irs.bounds(Observation(k, n), N, alpha_e) == exact, (k, n, N, alpha_e)


def test_a_bound_is_where_the_recursion_itself_crosses_the_error() -> None:
    """No re-weighting: the recursion is run at the bounds and beside them."""
    k, n, N, alpha_e = 3800, 4000, 100_000, 0.05
    reach = irs.estimate_reach(k, n, N, alpha_e)

    def tail(s: int, upper: bool) -> float:
        first, p = recursive_law(n, s, 1e-40)
        return float(p[k - first :].sum() if upper else p[: k - first + 1].sum())

    assert tail(reach.s_low, upper=True) > alpha_e >= tail(reach.s_low - 1, upper=True)
    assert tail(reach.s_high, upper=False) > alpha_e >= tail(reach.s_high + 1, upper=False)


@pytest.mark.parametrize(("n", "s", "alpha_e"), [(2, 20, 0.05), (3, 10, 0.01), (4, 100, 1e-6)])
def test_ties_with_the_error_are_decided_as_defined(n: int, s: int, alpha_e: float) -> None:
    """P(K = 1 | n, s) = s^(1-n), which floating point puts on either side."""
    assert irs.estimate_reach(1, n, 1000, alpha_e).s_high == s - 1
    assert irs.k_min(n, s, alpha_e) == 1


def test_near_ties_of_the_likelihood_are_decided_exactly_and_fast() -> None:
    start = time.process_time()
    n, k = 50_000, 49_999
    s = occupancy.likeliest(k, n, 10**11)
    assert s == 1_249_958_333
    assert time.process_time() - start < 0.5
    rises = [(t + 1) * t**n > (t + 1 - k) * (t + 1) ** n for t in (s - 1, s)]
    assert rises == [True, False]


def test_the_size_of_imagenet_takes_hundredths_of_a_second() -> None:
    start = time.process_time()
    reach = irs.estimate_reach(40_000, 50_000, 1_281_167)
    assert (reach.s_hat, reach.s_low, reach.s_high) == (107_707, 106_201, 109_247)
    assert time.process_time() - start < 0.5  # 0.02 s; `benchmarks/irs.py` times it


def test_pmf_has_the_known_mean_and_variance() -> None:
    n, s = 900, 700
    law = occupancy.pmf(n, s)
    k = torch.arange(law.first, law.first + len(law.p), dtype=torch.float64)
    mean = float((law.p * k).sum())
    variance = float((law.p * (k - mean).square()).sum())
    q, r = (1 - 1 / s) ** n, (1 - 2 / s) ** n
    assert mean == pytest.approx(s * irs.coupon_expected_fraction(n, s), rel=1e-12)
    assert variance == pytest.approx(s * q + s * (s - 1) * r - s * s * q * q, rel=1e-8)
    assert occupancy.moments(n, s) == pytest.approx((mean, math.sqrt(variance)), rel=2e-3)


@pytest.mark.parametrize(("n", "s"), [(1, 1), (1, 9), (9, 1), (5, 10**9), (10**6, 10**6), (3000, 2)])
def test_the_main_part_of_the_law_holds_all_of_it(n: int, s: int) -> None:
    assert float(occupancy.main_pmf(n, s).cdf[-1]) == pytest.approx(1, abs=1e-12)


def test_log_stirling_equals_exact_integers() -> None:
    for n, k in [(2, 1), (10, 3), (10, 9), (60, 30), (200, 199), (200, 2), (30, 30)]:
        assert stirling.log_stirling2(n, k) == pytest.approx(math.log(stirling2(n, k)), rel=1e-12, abs=1e-12)


def test_temme_keeps_its_claimed_error() -> None:
    for n in (10, 40, 200):
        for k in range(1, n + 1):
            assert abs(stirling.log_stirling2_temme(n, k) - math.log(stirling2(n, k))) <= 0.066 / n
