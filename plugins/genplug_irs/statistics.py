"""Coupon-collector statistics of the Image Retrieval Score (arXiv 2411.16171, section 3).

n queries each retrieve one of s equally likely training images; K is the number of distinct ones, N the size
of the training set, k the observed K. Equation numbers are the paper's; Eqs. 8 to 10 in their corrected
reading (as printed they are vacuous). `occupancy` has the probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genplug_irs.occupancy import NEGLIGIBLE, Observation, first_true, likeliest, pmf

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
    """
    if not 1 <= k <= min(n, N):
        raise ValueError(f"k={k} distinct images need 1 <= k <= min(n={n}, N={N})")
    seen = Observation(k, n)
    s_low = first_true(lambda s: seen.p_at_least(s) > alpha_e, k, N)
    s_high = first_true(lambda s: seen.p_at_most(s + 1) <= alpha_e, k, N)
    return Reach(N, n, k, likeliest(k, n, N), s_low, s_high)


def k_min(n: int, s: int, alpha_e: float = ALPHA_E) -> int:
    """Return the smallest k with P(K <= k | n, s) >= alpha_e (Eq. 10); fewer distinct images reject s."""
    law = pmf(n, s, NEGLIGIBLE)
    return law.first + int(torch.searchsorted(law.cdf, torch.tensor(alpha_e, dtype=torch.float64)))


def is_rejected(k_so_far: int, drawn: int, n: int, threshold: int) -> bool:
    """Tell after `drawn` of n draws whether K can no longer reach the threshold k_min: stop early."""
    return k_so_far + (n - drawn) < threshold


@dataclass(frozen=True)
class Ratio:
    """IRS_inf,a, the ratio of two IRS_inf; >= 0, may exceed 1. [low, high] by parametric bootstrap."""

    value: float
    low: float
    high: float
    level: float


def adjusted_score(
    k_fake: int, k_real: int, n: int, N: int, draws: int = 1000, level: float = 0.9, seed: int = 0
) -> Ratio:
    """Return s_hat(generated) / s_hat(held-out real), n queries each, with a percentile interval.

    The paper gives none; here both K are redrawn from their laws at the estimated s, and both s re-estimated.
    """
    g = torch.Generator().manual_seed(seed)
    s_fake, s_real = likeliest(k_fake, n, N), likeliest(k_real, n, N)
    ratios = _redraw(n, s_fake, N, draws, g) / _redraw(n, s_real, N, draws, g)
    sides = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = ratios.quantile(sides).tolist()
    return Ratio(s_fake / s_real, low, high, level)


def _redraw(n: int, s: int, N: int, draws: int, g: torch.Generator) -> Tensor:
    values, place = torch.unique(pmf(n, s, NEGLIGIBLE).sample(draws, g), return_inverse=True)
    return torch.tensor([likeliest(int(k), n, N) for k in values], dtype=torch.float64)[place]


def retrieval_counts(index_n: Tensor, N: int) -> Tensor:
    """Return how often each of the N training images is retrieved; K counts the positive entries (Eq. 3)."""
    return torch.bincount(index_n.flatten(), minlength=N)


def chao1(counts_N: Tensor) -> float:
    """Return Chao's lower bound of the reachable images under unequal probabilities (1984, bias-corrected).

    K + f1 (f1 - 1) / (2 (f2 + 1)), where f1 and f2 count the images retrieved once and twice.
    """
    K, f1, f2 = (int(c.sum()) for c in (counts_N > 0, counts_N == 1, counts_N == 2))
    return K + f1 * (f1 - 1) / (2 * (f2 + 1))
