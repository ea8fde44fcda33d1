"""IRS statistics: golden cases through the parity module, published anchors, coverage, folds, rarefaction."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from genplug_irs import statistics as irs

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(Path(__file__).parent)]
import parity_metrics  # noqa: E402
from irs_exact import exact_p  # noqa: E402


@pytest.mark.parametrize(("n", "s"), [(7, 3), (14, 12), (12, 40)])
def test_k_min_equals_exact_search(n: int, s: int) -> None:
    for alpha in (0.05, 0.01):
        cdf = [sum(exact_p(j, n, s) for j in range(1, k + 1)) for k in range(1, min(n, s) + 1)]
        threshold = 1 + next(i for i, p in enumerate(cdf) if p >= alpha)
        assert irs.k_min(n, s, alpha) == threshold
        below = float(cdf[threshold - 2]) if threshold > 1 else 0.0
        assert irs.rejection_power(n, s, threshold) == pytest.approx(below, rel=1e-12)


def test_golden_cases_are_recomputed_within_tolerance() -> None:
    with safe_open(TESTS / "golden" / "metrics_a.safetensors", "pt") as f:
        meta, tensors = json.loads(f.metadata()["meta"]), {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118
    got = parity_metrics.recompute({key: t for key, t in tensors.items() if key.startswith("in/")}, meta)
    mine = re.compile(r"out/(irs|kmin|stirling|coupon|n_learned)")
    wanted = {key: t for key, t in tensors.items() if mine.match(key)}
    assert len(wanted) > 50
    assert [key for key in wanted if not parity_metrics.compare(key, got[key], wanted[key])] == []


def test_published_real_data_example() -> None:
    estimate, low, high = irs.estimate_reach(1159, 1277, 7465).irs_inf
    assert (round(estimate, 3), round(low, 3), high) == (0.867, 0.752, 1.0)


def test_published_rejection_threshold_of_imagenet() -> None:
    assert irs.k_min(50_000, int(0.8 * 1_281_166)) == 48_745


def test_published_power_of_sixty_samples() -> None:
    """N = 800: methods, section 4.8."""
    threshold = irs.k_min(60, 800)
    assert round(irs.rejection_power(60, 200, threshold), 2) == 0.87
    assert round(irs.rejection_power(60, 400, threshold), 2) == 0.24


def test_expected_fraction_of_one_item_and_of_no_draw() -> None:
    assert irs.coupon_expected_fraction(3, 1) == 1.0
    assert irs.coupon_expected_fraction(0, 5) == irs.coupon_expected_fraction(0, 1) == 0.0


TRIALS = 300


def simulated(s: int, n: int, trials: int) -> list[int]:
    """Distinct items of n uniform draws from s, by drawing."""
    g = torch.Generator().manual_seed(1000 * n + s)
    drawn = torch.randint(s, (trials, n), generator=g).sort(1).values
    return (1 + (drawn[:, 1:] != drawn[:, :-1]).sum(1)).tolist()


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
def test_simulated_diversities_are_recovered_and_each_bound_errs_as_often_as_it_says(alpha: float) -> None:
    """N = 4000. A bound may err in 5 % of the trials; four standard deviations of their number are left."""
    N = 4000
    n, most = round(alpha * N), 0.05 * TRIALS + 4 * (0.05 * 0.95 * TRIALS) ** 0.5
    errors = 0
    for diversity in (0.1, 0.3, 0.5, 0.8, 1.0):
        s, found = round(diversity * N), simulated(round(diversity * N), n, TRIALS)
        reach = {k: irs.estimate_reach(k, n, N) for k in set(found)}
        low = sum(reach[k].s_low > s for k in found)
        high = sum(reach[k].s_high < s for k in found)
        assert max(low, high) <= most, (diversity, low, high)
        errors += low + high
        mean = sum(reach[k].s_hat for k in found) / TRIALS / s
        if alpha == 1 and diversity < 1:  # where s is well below N, its estimate is unbiased
            assert mean == pytest.approx(1, rel=0.01)
        if diversity == 1:  # s cannot exceed N: the estimate is low, and less so with more samples
            assert {0.01: 0.6, 0.1: 0.8, 1.0: 0.98}[alpha] < mean < 1
    if alpha == 1:  # the law of K is fine-grained: the bounds err about as often as they may, not never
        assert errors > 0.05 * 5 * TRIALS


def test_half_the_error_per_bound_gives_a_wider_interval() -> None:
    each, both = irs.estimate_reach(700, 1000, 4000, 0.05), irs.estimate_reach(700, 1000, 4000, 0.025)
    assert both.s_low < each.s_low < each.s_hat == both.s_hat < each.s_high < both.s_high


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


def test_folds_are_averaged() -> None:
    many = irs.adjusted_score([300, 296, 304, 299], 320, 400, 2000)
    s = [irs.estimate_reach(k, 400, 2000).s_hat for k in (300, 296, 304, 299, 320)]
    assert many.value == pytest.approx(sum(s[:4]) / 4 / s[4], rel=1e-12)
    assert many.low < many.value < many.high


@pytest.mark.parametrize("s", [300, 1000])
def test_intervals_over_folds_cover_at_their_rate(s: int) -> None:
    """Four folds of a tenth of the training set, also where the whole of it is within reach."""
    g, N, n = torch.Generator().manual_seed(s), 1000, 100

    def draw(reached: int) -> int:
        return int(torch.unique(torch.randint(reached, (n,), generator=g)).numel())

    held = [0, 0]
    for _ in range(60):
        ks, k_real = [draw(s) for _ in range(4)], draw(N)
        _, low, high = irs.mean_reach([irs.estimate_reach(k, n, N) for k in ks])
        ratio = irs.adjusted_score(ks, k_real, n, N, draws=200)
        held[0] += low <= s / N <= high
        held[1] += ratio.low <= s / N <= ratio.high
    assert held[0] >= 54
    assert held[1] >= 48  # 90 % less 2.6 standard deviations


def test_a_hopeless_count_is_rejected_early() -> None:
    assert irs.is_rejected(k_so_far=10, drawn=15, n=20, threshold=16)
    assert not irs.is_rejected(k_so_far=11, drawn=15, n=20, threshold=16)


def test_rarefaction_is_the_mean_over_all_choices() -> None:
    index = [0, 1, 1, 2, 3, 3, 5, 5, 5]
    counts = irs.retrieval_counts(torch.tensor(index), 8)
    for m in (1, 2, 4, 8, 9):
        choices = [len(set(some)) for some in itertools.combinations(index, m)]
        assert irs.expected_distinct(counts, m) == pytest.approx(sum(choices) / len(choices), rel=1e-12)


def test_chao_counts_singletons_and_doubletons() -> None:
    counts = irs.retrieval_counts(torch.tensor([0, 1, 1, 2, 3, 3, 5, 5, 5]), 8)
    assert counts.tolist() == [1, 2, 1, 2, 0, 3, 0, 0]
    assert irs.chao1(counts) == 5 + 2 * 1 / (2 * 3)


def test_unequal_probabilities_bias_the_estimate_low_which_rising_values_show() -> None:
    """Zipf over N = 1000, all within reach: methods, section 4.5."""
    weights = 1 / torch.arange(1, 1001, dtype=torch.float64)
    index = torch.multinomial(weights, 2000, replacement=True, generator=torch.Generator().manual_seed(0))
    counts: Tensor = irs.retrieval_counts(index, 1000)
    few, all_ = (irs.reach_at(counts, m, 1000) for m in (500, 2000))
    assert few.s_high < all_.s_hat < irs.chao1(counts) < 1000
    uniform = irs.retrieval_counts(
        torch.randint(600, (2000,), generator=torch.Generator().manual_seed(0)), 1000
    )
    few, all_ = (irs.reach_at(uniform, m, 1000) for m in (500, 2000))
    assert few.s_low <= all_.s_hat <= few.s_high


@pytest.mark.parametrize(("k", "n", "N"), [(0, 5, 9), (6, 5, 9), (5, 9, 4)])
def test_impossible_counts_are_refused(k: int, n: int, N: int) -> None:
    with pytest.raises(ValueError, match="distinct images"):
        irs.estimate_reach(k, n, N)
