"""The law of K by its exact recursion: the reference that `occupancy` is tested and timed against.

n queries each retrieve one of s equally likely training images; K is the number of distinct ones.

    p_{i+1}(k) = p_i(k) k/s + p_i(k-1) (s-k+1)/s,

all of whose terms are positive: relative error about n 2^-52. O(n) steps, where `occupancy` takes none.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from genplug_irs.occupancy import Observation

NEGLIGIBLE = 1e-40  # share of the largest probability below which the moving window drops an entry
STEPS = 256  # recursion steps between two trims of the window


def recursive_law(n: int, s: int, negligible: float = 0.0) -> tuple[int, Tensor]:
    """Return the first k and P(K = first + i | n, s), float64.

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
    return first, p


class RecursiveObservation(Observation):
    """The tails of `Observation` by one recursion at the likeliest s, re-weighted for any other:

    P(j | n, s) / P(j | n, s_0) = exp(f(s, j) - f(s_0, j) + (j - n) ln(s / s_0)),
    f(s, j) = sum_{i<j} ln(1 - i/s).
    """

    @cached_property
    def base(self) -> tuple[int, Tensor]:
        return recursive_law(self.n, self.s_0, NEGLIGIBLE)

    @cached_property
    def _log_base(self) -> Tensor:
        return self.base[1].log() - self._s_factor(self.s_0)

    def _s_factor(self, s: int) -> Tensor:
        first, last = self.base[0], self.base[0] + len(self.base[1]) - 1
        j = torch.arange(first, last + 1, dtype=torch.float64)
        return log_falling(s, last)[first:] - (self.n - j) * math.log(s)

    def _below(self, s: int, k: int) -> float:
        return float((self._log_base + self._s_factor(s)).exp()[: k - self.base[0] + 1].sum())

    def _above(self, s: int, k: int) -> float:
        return float((self._log_base + self._s_factor(s)).exp()[k - self.base[0] :].sum())


def log_falling(s: int, k: int) -> Tensor:
    """Return f(s, j) for j = 0 ... k; -inf where j > s."""
    i = torch.arange(k, dtype=torch.float64)
    terms = torch.log1p(-(i / s).clamp_max(1.0))
    return torch.cat([terms.new_zeros(1), terms.cumsum(0)])


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
