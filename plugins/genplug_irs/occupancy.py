"""How many distinct images n draws retrieve: the exact law of K (arXiv 2411.16171, section 3).

n queries each retrieve one of s equally likely training images; K is the number of distinct ones, k the
observed K. Equation numbers are the paper's. Probabilities come from the exact recursion

    p_{i+1}(k) = p_i(k) k/s + p_i(k-1) (s-k+1)/s,

all of whose terms are positive, run once per (n, k) at the likeliest s. Another s only re-weights it,

    P(k | n, s') / P(k | n, s) = exp(f(s', k) - f(s, k) + (k - n) ln(s'/s)),  f(s, k) = sum_{i<k} ln(1 - i/s),

since the Stirling number in Eq. 5 does not depend on s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

NEGLIGIBLE = 1e-40  # share of the largest probability below which the moving window drops an entry
STEPS = 256  # recursion steps between two trims of the window


@dataclass(frozen=True)
class Pmf:
    """P(K = first + i) = p[i], float64; entries outside are negligible or zero."""

    first: int
    p: Tensor

    def at(self, k: int) -> float:
        i = k - self.first
        return float(self.p[i]) if 0 <= i < len(self.p) else 0.0

    @cached_property
    def cdf(self) -> Tensor:
        return self.p.cumsum(0)

    def sample(self, draws: int, g: torch.Generator) -> Tensor:
        """Draw K."""
        u = torch.rand(draws, generator=g, dtype=torch.float64) * self.cdf[-1]
        return torch.searchsorted(self.cdf, u).clamp_max(len(self.p) - 1) + self.first


@lru_cache(maxsize=32)
def pmf(n: int, s: int, negligible: float = 0.0) -> Pmf:
    """Return the law of K for n draws from s (Eq. 5), relative error about n 2^-52 per entry.

    `negligible` > 0 drops entries that small beside the largest, which makes n = 50,000 a matter of a second.
    """
    first, p = 1, torch.ones(1, dtype=torch.float64)
    for done in range(1, n, STEPS):
        steps = min(STEPS, n - done)
        grow = min(steps, min(n, s) - (first + len(p) - 1))
        p = _advance(torch.cat([p, p.new_zeros(grow)]), first, s, steps)
        if negligible > 0:
            kept = (p > negligible * p.max()).nonzero()[:, 0]
            first, p = first + int(kept[0]), p[int(kept[0]) : int(kept[-1]) + 1]
    return Pmf(first, p)


def _advance(p: Tensor, first: int, s: int, steps: int) -> Tensor:
    """Run the recursion on a fixed window; mass entering from below the window is negligible by choice."""
    k = torch.arange(first, first + len(p), dtype=torch.float64)
    stay, move = k / s, (s - k + 1) / s
    old, new = (torch.zeros(len(p) + 1, dtype=torch.float64) for _ in range(2))
    old[1:] = p
    views = [(old[1:], old[:-1], new[1:]), (new[1:], new[:-1], old[1:])]
    for i in range(steps):
        here, below, target = views[i % 2]
        torch.mul(here, stay, out=target)
        target.addcmul_(below, move)
    return views[steps % 2][0].clone()


def log_falling(s: int, k: int) -> Tensor:
    """Return f(s, j) for j = 0 ... k; -inf where j > s."""
    i = torch.arange(k, dtype=torch.float64)
    terms = torch.log1p(-(i / s).clamp_max(1.0))
    return torch.cat([terms.new_zeros(1), terms.cumsum(0)])


@dataclass(frozen=True)
class Observation:
    """k distinct images from n draws, with everything that does not depend on s computed once."""

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise ValueError(f"k={self.k} distinct images from n={self.n} draws is impossible: 1 <= k <= n")

    @cached_property
    def s_0(self) -> int:
        """The unbounded maximum-likelihood s."""
        return likeliest(self.k, self.n, 2 * self.n**2 + 2)

    @cached_property
    def base(self) -> Pmf:
        return pmf(self.n, self.s_0, NEGLIGIBLE)

    @cached_property
    def _log_base(self) -> Tensor:
        """ln P(j | n, s_0) less the factors that depend on s_0, for j in the window."""
        return self.base.p.log() - self._s_factor(self.s_0)

    def _s_factor(self, s: int) -> Tensor:
        """Return f(s, j) - (n - j) ln s for j in the window."""
        first, last = self.base.first, self.base.first + len(self.base.p) - 1
        j = torch.arange(first, last + 1, dtype=torch.float64)
        return log_falling(s, last)[first:] - (self.n - j) * math.log(s)

    def log_p(self, s: int) -> float:
        """Return ln P(K = k | n, s); -inf for s < k."""
        if s < self.k:
            return -math.inf
        if self.k == 1:
            return (1 - self.n) * math.log(s)
        f = float(log_falling(s, self.k)[-1])
        if self.k == self.n:
            return f
        return float(self._log_base[self.k - self.base.first]) + f - (self.n - self.k) * math.log(s)

    def _window(self, s: int) -> Tensor:
        """Return P(K = j | n, s) for j in the window."""
        return (self._log_base + self._s_factor(s)).exp()

    def p_at_most(self, s: int) -> float:
        """Return P(K <= k | n, s), falling in s."""
        if self.k == self.n or s <= self.k:
            return 1.0
        if self.k == 1:
            return math.exp(self.log_p(s))
        p, place = self._window(s), self.k - self.base.first + 1
        return float(p[:place].sum()) if s >= self.s_0 else 1 - float(p[place:].sum())

    def p_at_least(self, s: int) -> float:
        """Return P(K >= k | n, s), rising in s; the tail that is summed is the one away from the mode."""
        if self.k == 1:
            return 1.0
        if s < self.k:
            return 0.0
        if self.k == self.n:
            return math.exp(self.log_p(s))
        p, place = self._window(s), self.k - self.base.first
        return float(p[place:].sum()) if s <= self.s_0 else 1 - float(p[:place].sum())


def likeliest(k: int, n: int, N: int) -> int:
    """Return the smallest s in [k, N] that maximises P(K = k | n, s) (Eq. 7); it is unimodal in s."""
    return first_true(lambda s: not _likelihood_rises(s, k, n), k, N)


def _likelihood_rises(s: int, k: int, n: int) -> bool:
    """Tell whether P(k | n, s+1) > P(k | n, s): (s+1) s^n > (s+1-k) (s+1)^n, near ties in integers."""
    left, right = -math.log1p(-k / (s + 1)), n * math.log1p(1 / s)
    if abs(left - right) > 1e-14 * right:
        return left > right
    return bool((s + 1) * s**n > (s + 1 - k) * (s + 1) ** n)


def first_true(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first integer of [low, high] from which on `holds` is true, or high."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
