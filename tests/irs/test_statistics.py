"""IRS statistics: exact integers, golden cases through the parity module, published anchors, coverage."""

from __future__ import annotations

import json
import math
import sys
import time
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from genplug_irs import occupancy, stirling
from genplug_irs import statistics as irs

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
import parity_metrics  # noqa: E402

SMALL = [(N, n) for N in (1, 2, 3, 7, 12) for n in (1, 2, 5, 9, 14)]


@cache
def stirling2(n: int, k: int) -> int:
    if n == k:
        return 1
    return 0 if k == 0 or k > n else k * stirling2(n - 1, k) + stirling2(n - 1, k - 1)


def exact_p(k: int, n: int, s: int) -> Fraction:
    """Eq. 5 in integers."""
    return Fraction(stirling2(n, k) * math.perm(s, k), s**n)


@pytest.mark.parametrize(("N", "n"), SMALL)
def test_pmf_equals_exact_integers(N: int, n: int) -> None:
    law = occupancy.pmf(n, N)
    exact = [float(exact_p(k, n, N)) for k in range(1, min(n, N) + 1)]
    assert law.first == 1
    assert law.p.tolist() == pytest.approx(exact, rel=1e-13)


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


@pytest.mark.parametrize(("n", "k"), [(9, 4), (14, 13), (14, 14), (14, 1), (12, 2)])
def test_log_p_and_tails_equal_exact_integers_for_every_s(n: int, k: int) -> None:
    seen = occupancy.Observation(k, n)
    for s in (k, k + 1, 20, 100, 1000):
        assert seen.log_p(s) == pytest.approx(math.log(exact_p(k, n, s)), abs=1e-11)
        at_most = float(sum(exact_p(j, n, s) for j in range(1, k + 1)))
        at_least = float(sum(exact_p(j, n, s) for j in range(k, n + 1)))
        assert (seen.p_at_most(s), seen.p_at_least(s)) == pytest.approx((at_most, at_least), rel=1e-11)


def test_fewer_items_than_seen_are_impossible() -> None:
    seen = occupancy.Observation(5, 9)
    assert (seen.log_p(4), seen.p_at_least(4), seen.p_at_most(4)) == (-math.inf, 0.0, 1.0)


@pytest.mark.parametrize(("n", "s"), [(7, 3), (14, 12), (12, 40)])
def test_k_min_equals_exact_search(n: int, s: int) -> None:
    for alpha in (0.05, 0.01):
        cdf = [sum(exact_p(j, n, s) for j in range(1, k + 1)) for k in range(1, min(n, s) + 1)]
        assert irs.k_min(n, s, alpha) == 1 + next(i for i, p in enumerate(cdf) if p >= alpha)


def test_golden_cases_are_recomputed_within_tolerance() -> None:
    with safe_open(TESTS / "golden" / "metrics_a.safetensors", "pt") as f:
        meta, tensors = json.loads(f.metadata()["meta"]), {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118
    inputs = {key: t for key, t in tensors.items() if key.startswith("in/")}
    got = parity_metrics.recompute(inputs, meta)
    wanted = {k: t for k, t in tensors.items() if k.startswith("out/") and not parity_metrics.out_of_scope(k)}
    assert got.keys() == wanted.keys()
    assert [key for key in wanted if not parity_metrics.compare(key, got[key], wanted[key])] == []


def test_published_real_data_example() -> None:
    estimate, low, high = irs.estimate_reach(1159, 1277, 7465).irs_inf
    assert (round(estimate, 3), round(low, 3), high) == (0.867, 0.752, 1.0)


def test_published_rejection_threshold_of_imagenet() -> None:
    assert irs.k_min(50_000, int(0.8 * 1_281_166)) == 48_745


def test_the_size_of_imagenet_takes_seconds() -> None:
    start = time.process_time()
    reach = irs.estimate_reach(40_000, 50_000, 1_281_166)
    assert reach.s_low < reach.s_hat < reach.s_high
    assert time.process_time() - start < 30  # about 2 s on a quiet machine


def test_windowed_recursion_equals_the_full_one() -> None:
    full, window = occupancy.pmf(700, 300), occupancy.pmf(700, 300, occupancy.NEGLIGIBLE)
    part = full.p[window.first - 1 : window.first - 1 + len(window.p)]
    torch.testing.assert_close(window.p, part, rtol=1e-9, atol=1e-38)
    assert float(window.cdf[-1]) == pytest.approx(1, abs=1e-12)


def test_pmf_has_the_known_mean_and_variance() -> None:
    n, s = 900, 700
    law = occupancy.pmf(n, s)
    k = torch.arange(law.first, law.first + len(law.p), dtype=torch.float64)
    mean = float((law.p * k).sum())
    variance = float((law.p * (k - mean).square()).sum())
    q, r = (1 - 1 / s) ** n, (1 - 2 / s) ** n
    assert mean == pytest.approx(s * irs.coupon_expected_fraction(n, s), rel=1e-12)
    assert variance == pytest.approx(s * q + s * (s - 1) * r - s * s * q * q, rel=1e-8)


def test_expected_fraction_of_one_item_and_of_no_draw() -> None:
    assert irs.coupon_expected_fraction(3, 1) == 1.0
    assert irs.coupon_expected_fraction(0, 5) == irs.coupon_expected_fraction(0, 1) == 0.0


@pytest.mark.parametrize("s", [200, 500, 900])
def test_interval_covers_nine_of_ten(s: int) -> None:
    """n = N = 1000 uniform draws; each bound errs with at most 0.05."""
    g = torch.Generator().manual_seed(s)
    found = [int(torch.unique(torch.randint(s, (1000,), generator=g)).numel()) for _ in range(100)]
    reach = {k: irs.estimate_reach(k, 1000, 1000) for k in set(found)}
    assert sum(reach[k].s_low <= s <= reach[k].s_high for k in found) / 100 >= 0.84
    assert sum(reach[k].s_hat for k in found) / 100 == pytest.approx(s, rel=0.02)


def test_log_stirling_equals_exact_integers() -> None:
    for n, k in [(2, 1), (10, 3), (10, 9), (60, 30), (200, 199), (200, 2), (30, 30)]:
        assert stirling.log_stirling2(n, k) == pytest.approx(math.log(stirling2(n, k)), rel=1e-12, abs=1e-12)


def test_temme_keeps_its_claimed_error() -> None:
    for n in (10, 40, 200):
        for k in range(1, n + 1):
            assert abs(stirling.log_stirling2_temme(n, k) - math.log(stirling2(n, k))) <= 0.066 / n


def test_the_ratio_of_equal_counts_is_one_and_inside_its_interval() -> None:
    ratio = irs.adjusted_score(300, 300, 400, 1000)
    assert ratio.value == 1
    assert ratio.low < 1 < ratio.high
    assert ratio == irs.adjusted_score(300, 300, 400, 1000)


def test_the_ratio_interval_covers_the_true_ratio() -> None:
    g = torch.Generator().manual_seed(0)

    def draw(s: int) -> int:
        return int(torch.unique(torch.randint(s, (500,), generator=g)).numel())

    ratios = [irs.adjusted_score(draw(300), draw(600), 500, 1000, draws=200) for _ in range(60)]
    assert sum(r.low <= 0.5 <= r.high for r in ratios) >= 48


def test_a_hopeless_count_is_rejected_early() -> None:
    assert irs.is_rejected(k_so_far=10, drawn=15, n=20, threshold=16)
    assert not irs.is_rejected(k_so_far=11, drawn=15, n=20, threshold=16)


def test_chao_counts_singletons_and_doubletons() -> None:
    counts = irs.retrieval_counts(torch.tensor([0, 1, 1, 2, 3, 3, 5, 5, 5]), 8)
    assert counts.tolist() == [1, 2, 1, 2, 0, 3, 0, 0]
    assert irs.chao1(counts) == 5 + 2 * 1 / (2 * 3)


def test_chao_is_less_biased_than_the_estimate_under_unequal_probabilities() -> None:
    weights = 1 / torch.arange(1, 1001, dtype=torch.float64)
    index = torch.multinomial(weights, 2000, replacement=True, generator=torch.Generator().manual_seed(0))
    counts: Tensor = irs.retrieval_counts(index, 1000)
    s_hat = irs.estimate_reach(int((counts > 0).sum()), 2000, 1000).s_hat
    assert s_hat < irs.chao1(counts) < 1000


@pytest.mark.parametrize(("k", "n", "N"), [(0, 5, 9), (6, 5, 9), (5, 9, 4)])
def test_impossible_counts_are_refused(k: int, n: int, N: int) -> None:
    with pytest.raises(ValueError, match="distinct images"):
        irs.estimate_reach(k, n, N)
