"""How many distinct images n draws retrieve: the exact law of K (arXiv 2411.16171, section 3).

n queries each retrieve one of s equally likely training images; K is the number of distinct ones, k the
observed K. Equation numbers are the paper's. If every image were retrieved a Poisson(r) number of times, K
would be binomial, and the law of K is that one given that all retrievals are n. So Eq. 5 is, for any r > 0,

    P(K = j | n, s) = Binomial(j; s, 1 - e^-r) P(T_j = n) / Poisson(n; s r),

T_j the sum of j Poisson(r) numbers none of which is 0, and r is free to be r_j, for which E[T_j] = n: there
P(T_j = n) is largest. It is the integral of a characteristic function over one period, which the trapezoid
rule gives to machine precision with some forty nodes, since what it leaves out is P(T_j = n +- M nodes). It
does not depend on s, is computed once for a window of j around k, and another s only re-weights it by
two elementary laws. These are written with deviances, as R has them (Loader 2000), so that nothing cancels:

    ln P = g(s) - g(j) - g(s-j) + g(n) - d(j, s (1 - e^-r)) - d(s-j, s e^-r) + d(n, s r) + ln P(T_j = n),
    d(x, m) = x ln(x/m) + m - x,   g(x) = ln x! - x ln x + x.

Relative error below 1e-12, without the n steps of the exact recursion (`recursion`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]

WIDTH = 14.0  # standard deviations of K in a window; beyond, its law has less than 1e-40
ROOM = 64  # and entries more, for laws that are nearly Poisson
PIECE = 2**9  # entries of a window at a time: the work on them stays in the cache
STEEP = 0.1  # |x - m| / (x + m) from which d(x, m) is not summed as a series
TINY = 1e-30  # r at j = n, where the limit r -> 0 is exact
FULL = 2.0**-53 - 1  # -j/s where all are found, kept off the singularity of ln(1 - j/s)
VANISHED = 1e-300  # likewise for what may be zero


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

    def quantile(self, q: float) -> int:
        """Return the smallest k with P(K <= k) >= q, q in (0, 1)."""
        place = torch.searchsorted(self.cdf, torch.tensor(q, dtype=torch.float64))
        return self.first + min(int(place), len(self.p) - 1)

    def sample(self, draws: int, g: torch.Generator) -> Tensor:
        """Draw K."""
        u = torch.rand(draws, generator=g, dtype=torch.float64) * self.cdf[-1]
        return torch.searchsorted(self.cdf, u).clamp_max(len(self.p) - 1) + self.first


def pmf(n: int, s: int) -> Pmf:
    """Return the law of K for n draws from s (Eq. 5), every entry from 1 to min(n, s)."""
    return _law(n, s, 1, min(n, s))


@lru_cache(maxsize=32)
def main_pmf(n: int, s: int) -> Pmf:
    """Return the law of K for n draws from s less its tails below 1e-40."""
    mean, spread = moments(n, s)
    reach = WIDTH * spread + ROOM
    return _law(n, s, max(1, math.floor(mean - reach)), min(n, s, math.ceil(mean + reach)))


def _law(n: int, s: int, first: int, last: int) -> Pmf:
    return Pmf(first, torch.from_numpy(Window(n, first, last).p(s)))


def moments(n: int, s: int) -> tuple[float, float]:
    """Return the mean of K (Eq. 2 times s) and its asymptotic standard deviation, for n draws from s.

    Variance s e^-a (1 - (1 + a) e^-a), a = n/s; the exact one never needs more than `ROOM` besides.
    """
    a = n / s
    mean = -s * math.expm1(n * math.log1p(-1 / s)) if s > 1 else 1.0
    free = -math.expm1(-a) - a * math.exp(-a) if a > 1e-3 else a * a / 2
    return mean, math.sqrt(s * math.exp(-a) * free)


@dataclass(frozen=True)
class Window:
    """What the law of K needs for j = first ... last and does not depend on s, float64.

    In numpy, whose elementwise functions stay in one thread: they are short, and torch's may wait for threads
    that a busy machine does not run.
    """

    n: int
    first: int
    last: int

    @cached_property
    def j(self) -> Array:
        return np.arange(self.first, self.last + 1, dtype=np.float64)

    @cached_property
    def r(self) -> Array:
        """r_j > 0 with r / (1 - e^-r) = n / j, by Newton from the right of a convex function's root."""
        v = self.n / self.j
        r = np.maximum(np.minimum(v, 2 * (v - 1)), TINY)
        for _ in range(8):
            slope = np.maximum(1 - v * np.exp(-r), TINY)
            r = np.maximum(r - (r + v * np.expm1(-r)) / slope, TINY)
        return r

    @cached_property
    def q(self) -> Array:
        """1 - e^-r."""
        return -np.expm1(-self.r)

    @cached_property
    def log_t(self) -> Array:
        """ln P(T_j = n)."""
        pieces = [slice(at, at + PIECE) for at in range(0, len(self.j), PIECE)]
        return np.concatenate([_log_truncated(self.n, self.j[p], self.r[p], self.q[p]) for p in pieces])

    @cached_property
    def _free(self) -> Array:
        return self.log_t - _g(self.j) + _g(np.array([self.n], dtype=np.float64))

    def log_p(self, s: int, first: int | None = None, last: int | None = None) -> Array:
        """Return ln P(K = j | n, s) for the j of the window, or some of them; -inf where j > s."""
        first, last = first or self.first, last or self.last
        log_p = np.full(last - first + 1, -math.inf)
        rows = slice(first - self.first, max(first, min(last, s) + 1) - self.first)
        j = self.j[rows]
        found = self._free[rows] - _g(s - j) - self._deviance(s, j, self.r[rows], self.q[rows])
        log_p[: len(j)] = found + _g(np.array([s], dtype=np.float64))
        return log_p

    def p(self, s: int, first: int | None = None, last: int | None = None) -> Array:
        """Return P(K = j | n, s) likewise."""
        return np.exp(self.log_p(s, first, last))

    def _deviance(self, s: int, j: Array, r: Array, q: Array) -> Array:
        """Return d(j, s q) + d(s-j, s e^-r) - d(n, s r).

        Each by its series where it is small; the sum in one closed form where it is large, since there
        terms of the size of s would cancel, which may be far more than n.
        """
        found, missed, drawn = j - s * q, s - j, self.n - s * r
        both = np.maximum(missed + s * np.exp(-r), VANISHED)
        a, b, c = found / (j + s * q), -found / both, drawn / (self.n + s * r)
        log_missed = np.log1p(np.maximum(-j / s, FULL))  # finite where nothing is missed
        rest = np.where(np.abs(b) < STEEP, -found * _series(b), missed * (log_missed + r) + found)
        near = found * _series(a) + rest - drawn * _series(c)
        far = (j - self.n) * np.log(self.n / (s * r)) + missed * log_missed - j * r + self.n
        return np.where(np.maximum(np.abs(a), np.abs(c)) < STEEP, near, far)


def _series(v: Array) -> Array:
    """Return d(x, m) / (x - m) for |v| = |x - m| / (x + m) < STEEP: v + (1 + v) (v^2/3 + v^4/5 + ...)."""
    w, tail = v * v, np.zeros_like(v)
    for power in range(17, 1, -2):
        tail = (tail + 1 / power) * w
    return v + (1 + v) * tail


_SMALL = np.array([math.log(math.factorial(i)) - (i * math.log(i) if i else 0) + i for i in range(32)])


def _g(x: Array) -> Array:
    """Return ln x! - x ln x + x for whole x >= 0: Stirling's series, and a table below 32."""
    y = np.maximum(x, 1.0)
    w = 1 / (y * y)
    series = (1 / 12 + w * (-1 / 360 + w * (1 / 1260 + w * (-1 / 1680 + w / 1188)))) / y
    small = _SMALL[np.minimum(x, 31.0).astype(np.int64)]
    return np.where(x < 32, small, 0.5 * np.log(2 * math.pi * y) + series)


def _log_truncated(n: int, j: Array, r: Array, q: Array) -> Array:
    """Return ln P(T_j = n), T_j the sum of j Poisson(r) numbers above 0, by the trapezoid rule.

    P(T = n) = 1/M sum_h phi(t_h)^j e^(-i n t_h), t_h = 2 pi h / M, whose aliases are P(T = n +- M). M and the
    reach of t are chosen by the variance of T; terms that far out are below 1e-18 of the first.
    """
    spread = np.sqrt(np.maximum(n * (1 - r * (1 - q) / q), 0.0))
    M = math.ceil(12 * float(spread.max()) + ROOM)
    reach = min(M // 2, math.ceil(M / (2 * math.pi) * 16 / max(float(spread.min()), 1.0)))
    t = np.arange(reach + 1)[:, None] * (2 * math.pi / M)
    weight = np.full_like(t, 2.0 / M)
    weight[0] = 1 / M
    if 2 * reach == M:
        weight[-1] = 1 / M
    # phi = 1 + x + i y = 1 + (e^(r e^(it)) - e^r) / (e^r - 1), x and y without cancellation
    a, b = -2 * r * np.sin(t / 2) ** 2, r * np.sin(t)
    x = (np.expm1(a) * np.cos(b) - 2 * np.sin(b / 2) ** 2) / q
    y = np.exp(a) * np.sin(b) / q
    square = 2 * x + x * x + y * y  # |phi|^2 - 1
    direct = np.log(np.maximum(np.hypot(1 + x, y), VANISHED))
    size = j * np.where(square > -0.5, 0.5 * np.log1p(np.maximum(square, -0.5)), direct)
    turn = j * np.arctan2(y, 1 + x) - n * t
    total: Array = (weight * np.exp(size) * np.cos(turn)).sum(0)
    return np.log(total)


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
        """The unbounded maximum-likelihood s; 2 n^2 + 2 where there is none (k = n)."""
        return likeliest(self.k, self.n, 2 * self.n**2 + 2)

    @cached_property
    def window(self) -> Window:
        """Entries around k beyond which the law at s_0, and so the tail of any s, is negligible."""
        reach = math.ceil(WIDTH * moments(self.n, self.s_0)[1]) + ROOM
        return Window(self.n, max(1, self.k - reach), min(self.n, self.k + reach))

    def log_p(self, s: int) -> float:
        """Return ln P(K = k | n, s); -inf for s < k."""
        return float(self.window.log_p(s, self.k, self.k)[0])

    def p_at_most(self, s: int) -> float:
        """Return P(K <= k | n, s), falling in s."""
        if s <= self.k or self.k == self.n:
            return 1.0
        return self._below(s, self.k) if s >= self.s_0 else 1 - self._above(s, self.k + 1)

    def p_at_least(self, s: int) -> float:
        """Return P(K >= k | n, s), rising in s; the tail that is summed is the one away from the mode."""
        if s < self.k or self.k == 1:
            return float(s >= self.k)
        return self._above(s, self.k) if s <= self.s_0 else 1 - self._below(s, self.k - 1)

    def _below(self, s: int, k: int) -> float:
        return float(self.window.p(s, last=k).sum())

    def _above(self, s: int, k: int) -> float:
        return float(self.window.p(s, first=k).sum())


def sequences(n: int, s: int) -> list[int]:
    """Return how many of the s^n sequences of n draws from s hold k distinct ones, for k = 0 ... n."""
    counts = [1] + [0] * n
    for drawn in range(1, n + 1):
        for k in range(drawn, 0, -1):
            counts[k] = counts[k] * k + counts[k - 1] * max(0, s - k + 1)
        counts[0] = 0
    return counts


def likeliest(k: int, n: int, N: int) -> int:
    """Return the smallest s in [k, N] that maximises P(K = k | n, s) (Eq. 7); it is unimodal in s."""
    return first_true(lambda s: not _likelihood_rises(s, k, n), k, N)


def _likelihood_rises(s: int, k: int, n: int) -> bool:
    """Tell whether P(k | n, s+1) > P(k | n, s): (s+1) s^n > (s+1-k) (s+1)^n, near ties with 50 digits.

    Only n = 1 has a tie, since s and s + 1 have no common factor; there it does not rise.
    """
    left, right = -math.log1p(-k / (s + 1)), n * math.log1p(1 / s)
    if abs(left - right) > 1e-14 * right:
        return left > right
    if n == 1:
        return False
    with localcontext(prec=50):
        above = Decimal(s + 1)
        return above.ln() - (above - k).ln() > n * (above.ln() - Decimal(s).ln())


def first_true(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first integer of [low, high] from which on `holds` is true, or high."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
