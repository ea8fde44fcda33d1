"""Coupon-collector statistics of the Image Retrieval Score (arXiv 2411.16171, section 3).

n queries each retrieve one of s equally likely training images; K is the number of distinct ones, N the size
of the training set, k the observed K. Equation numbers are the paper's; Eqs. 8 to 10 in their corrected
reading (as printed they are vacuous). `occupancy` has the probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from genplug_irs.occupancy import Observation, first_true, likeliest, main_pmf, sequences

EXACT = 300  # draws up to which a tie of a tail with the error is looked into
ALPHA_E = 0.05  # error probability of each bound alone; both together cover with at least 1 - 2 ALPHA_E


def coupon_expected_fraction(n: int, N: int) -> float:
    """Return E[K]/N = 1 - (1 - 1/N)^n for n uniform draws from all N (Eq. 2), in [0, 1]."""
    return 1.0 if N == 1 and n > 0 else -math.expm1(n * math.log1p(-1 / N)) if n > 0 else 0.0


@dataclass(frozen=True)
class Reach:
    """How many of the N training images can be retrieved: likeliest s and bounds, each in [k, N]."""

    N: int
    n: int
    k: int
    s_hat: int
    s_low: int
    s_high: int

    @property
    def irs_alpha(self) -> float:
        """k / N at alpha = n / N (Eq. 4)."""
        return self.k / self.N

    @property
    def irs_inf(self) -> tuple[float, float, float]:
        """Estimate, lower and upper bound as shares of N (Eqs. 7 to 9)."""
        return self.s_hat / self.N, self.s_low / self.N, self.s_high / self.N


def estimate_reach(k: int, n: int, N: int, alpha_e: float = ALPHA_E) -> Reach:
    """Return the maximum-likelihood s (Eq. 7) and the Clopper-Pearson bounds (Eqs. 8 and 9, corrected):

    s_low = min{s : P(K >= k | s) > alpha_e}, s_high = max{s : P(K <= k | s) > alpha_e}, both within [k, N].
    Each bound errs with at most alpha_e; an interval that errs with at most alpha_e takes half of it.
    """
    if not 1 <= k <= min(n, N):
        raise ValueError(f"k={k} distinct images need 1 <= k <= min(n={n}, N={N})")
    s_low, s_high = bounds(Observation(k, n), N, alpha_e)
    return Reach(N, n, k, likeliest(k, n, N), s_low, s_high)


def bounds(seen: Observation, N: int, alpha_e: float) -> tuple[int, int]:
    """Return s_low and s_high by bisection, both tails being monotone in s."""
    n, k = seen.n, seen.k

    def above(s: int) -> bool:
        return _against(alpha_e, seen.p_at_least(s), n, s, range(k, n + 1)) > 0

    def below(s: int) -> bool:
        return _against(alpha_e, seen.p_at_most(s), n, s, range(1, k + 1)) > 0

    return first_true(above, k, N), first_true(lambda s: not below(s + 1), k, N)


def _against(alpha_e: float, p: float, n: int, s: int, ks: range) -> float:
    """Return the sign of p - alpha_e, p = P(K in ks | n, s); ties, which few draws have, in integers."""
    if n > EXACT or abs(p - alpha_e) > 1e-11 * alpha_e:
        return p - alpha_e
    counts, error = sequences(n, s), Fraction(str(alpha_e))
    return float(Fraction(sum(counts[k] for k in ks), s**n) - error)


def share_of(share: float, N: int) -> int:
    """Return s = share N rounded down, at least 1; the share is the decimal number that was typed."""
    return max(1, int(Fraction(str(share)) * N))


def k_min(n: int, s: int, alpha_e: float = ALPHA_E) -> int:
    """Return the smallest k with P(K <= k | n, s) >= alpha_e (Eq. 10); fewer distinct images reject s."""
    law = main_pmf(n, s)
    k = max(law.first, law.quantile(alpha_e) - 1)
    while _against(alpha_e, float(law.cdf[k - law.first]), n, s, range(1, k + 1)) < 0:
        k += 1
    return k


def is_rejected(k_so_far: int, drawn: int, n: int, threshold: int) -> bool:
    """Tell after `drawn` of n draws whether K can no longer reach the threshold k_min: stop early."""
    return k_so_far + (n - drawn) < threshold


def rejection_power(n: int, s: int, threshold: int) -> float:
    """Return P(K < k_min | n, s): how often a generator that reaches s images is rejected."""
    law = main_pmf(n, s)
    below = threshold - law.first
    return float(law.cdf[min(below, len(law.p)) - 1]) if below > 0 else 0.0


@dataclass(frozen=True)
class Ratio:
    """IRS_inf,a, the ratio of two IRS_inf; >= 0, may exceed 1. [low, high] by parametric bootstrap."""

    value: float
    low: float
    high: float
    level: float


def adjusted_score(
    k_fake: int | Sequence[int],
    k_real: int,
    n: int,
    N: int,
    draws: int = 1000,
    level: float = 0.9,
    seed: int = 0,
) -> Ratio:
    """Return s_hat(generated) / s_hat(held-out real), n queries each, with a percentile interval.

    `k_fake` may be the counts of several folds of n generated samples. Their s_hat are averaged, and so are
    the ends of their intervals, which is more than the mean needs: redraws from an s_hat that the training
    set caps would be too low twice. The paper gives no interval; here both K are redrawn from their laws at
    the estimated s, and both s re-estimated.
    """
    g, folds = torch.Generator().manual_seed(seed), [k_fake] if isinstance(k_fake, int) else list(k_fake)
    s_real = likeliest(k_real, n, N)
    ratios = [_one_ratio(k, s_real, n, N, draws, level, g) for k in folds]
    value, low, high = (sum(one[i] for one in ratios) / len(ratios) for i in range(3))
    return Ratio(value, low, high, level)


def _one_ratio(
    k: int, s_real: int, n: int, N: int, draws: int, level: float, g: torch.Generator
) -> tuple[float, float, float]:
    """Return the ratio of one fold with its percentile interval."""
    s_fake = likeliest(k, n, N)
    low, high = central(_redraw(n, s_fake, N, draws, g) / _redraw(n, s_real, N, draws, g), level)
    value = s_fake / s_real
    return value, min(low, value), max(high, value)


def mean_reach(reaches: Sequence[Reach]) -> tuple[float, float, float]:
    """Return the mean IRS_inf of folds and bounds, as shares of N.

    The mean of the lower bounds is below the mean of what is bounded as surely as one of them; of the upper
    ones the largest is taken, since N cuts them off. Both are wider than the mean needs.
    """
    ends = [reach.irs_inf for reach in reaches]
    value, low = (sum(one[i] for one in ends) / len(ends) for i in (0, 1))
    return value, low, max(one[2] for one in ends)


def central(values: Tensor, level: float) -> tuple[float, float]:
    """Return the central interval that holds this share of the values."""
    sides = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = values.quantile(sides).tolist()
    return low, high


def _redraw(n: int, s: int, N: int, draws: int, g: torch.Generator) -> Tensor:
    values, place = torch.unique(main_pmf(n, s).sample(draws, g), return_inverse=True)
    return torch.tensor([likeliest(int(k), n, N) for k in values], dtype=torch.float64)[place]


def retrieval_counts(index_n: Tensor, N: int) -> Tensor:
    """Return how often each of the N training images is retrieved; K counts the positive entries (Eq. 3)."""
    return torch.bincount(index_n.flatten(), minlength=N)


def expected_distinct(counts_N: Tensor, m: int) -> float:
    """Return how many images m of the retrievals hold on average over all choices (rarefaction).

    sum_i 1 - C(n - c_i, m) / C(n, m), c_i how often image i is retrieved, n = sum_i c_i (Hurlbert 1971).
    """
    n = int(counts_N.sum())
    sizes_U, images_U = counts_N[counts_N > 0].unique(return_counts=True)
    left_U = (n - sizes_U - m).double()
    log_missed_U = (
        (n - sizes_U + 1).double().lgamma()
        - (left_U.clamp_min(0) + 1).lgamma()
        + math.lgamma(n - m + 1)
        - math.lgamma(n + 1)
    )
    missed_U = log_missed_U.exp().masked_fill(left_U < 0, 0.0)
    return float((images_U * (1 - missed_U)).sum())


def reach_at(counts_N: Tensor, m: int, N: int, alpha_e: float = ALPHA_E) -> Reach:
    """Estimate from m of the retrievals, with the mean K of all choices of them, rounded.

    Equally likely images give the same s_hat at every m; unequal ones, as real data has, a rising one.
    """
    return estimate_reach(max(1, round(expected_distinct(counts_N, m))), m, N, alpha_e)


def chao1(counts_N: Tensor) -> float:
    """Return Chao's lower bound of the reachable images under unequal probabilities (1984, bias-corrected).

    K + f1 (f1 - 1) / (2 (f2 + 1)), where f1 and f2 count the images retrieved once and twice.
    """
    K, f1, f2 = (int(c.sum()) for c in (counts_N > 0, counts_N == 1, counts_N == 2))
    return K + f1 * (f1 - 1) / (2 * (f2 + 1))
