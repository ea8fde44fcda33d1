"""Ordinary differential equations from t = 0 to 1, each row of a batch on its own.

    solution = FixedSteps("heun", 20).solve(velocity, x)          # solution.x, solution.evaluations_N
    solution = Dopri5(rtol=1e-5, atol=1e-5).solve(velocity, x)

`velocity(x, t_N, rows_N)` is dx/dt of some rows of the batch: `x` and `t_N` are theirs, `rows_N` their
numbers, by which the caller finds what belongs to them.

Legend: N rows of the batch, A rows that are still on their way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Derivative = Callable[[Tensor, Tensor, Tensor], Tensor]
Method = Literal["euler", "midpoint", "heun"]

ATTEMPTS = 1000  # steps, taken or rejected, of a row that is not given up
SMALLEST = 1e-6  # step in t below which a row is given up
SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0  # Hairer, Norsett and Wanner, Solving ODEs I, section II.4


@dataclass(frozen=True)
class Solution:
    """Where the rows end, and how often the velocity of each was asked for, int64 N.

    A row that could not be integrated is NaN.
    """

    x: Tensor
    evaluations_N: Tensor


class Solver(Protocol):
    """A way to integrate from 0 to 1."""

    def solve(self, velocity: Derivative, x: Tensor) -> Solution:
        """Return where each row of x ends."""


@dataclass(frozen=True)
class FixedSteps:
    """Equal steps by an explicit method of order 1 (euler) or 2 (midpoint, heun)."""

    method: Method
    steps: int

    def solve(self, velocity: Derivative, x: Tensor) -> Solution:
        """Return where each row of x ends."""
        h, rows_N = 1 / self.steps, torch.arange(len(x), device=x.device)

        def v(x: Tensor, t: float) -> Tensor:
            return velocity(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device), rows_N)

        for step in range(self.steps):
            t = step * h
            slope = v(x, t)
            if self.method == "midpoint":
                slope = v(x + h / 2 * slope, t + h / 2)
            elif self.method == "heun":
                slope = (slope + v(x + h * slope, t + h)) / 2
            x = x + h * slope
        return Solution(x, torch.full_like(rows_N, self.steps * evaluations_per_step(self.method)))


def evaluations_per_step(method: Method) -> int:
    """Return how often a step asks for the velocity."""
    return 1 if method == "euler" else 2


# The tableau of Dormand and Prince (1980), order 5 with an embedded order 4.
_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


@dataclass(frozen=True)
class Dopri5:
    """Dormand-Prince steps under error control, an own time and step for every row.

    So a row does not depend on its batch. A row is given up, as NaN, after `ATTEMPTS` steps or when its
    step gets below `SMALLEST`.
    """

    rtol: float = 1e-5
    atol: float = 1e-5

    def solve(self, velocity: Derivative, x: Tensor) -> Solution:
        """Return where each row of x ends."""
        N, x = len(x), x.clone()
        t_N = torch.zeros(N, dtype=torch.float64, device=x.device)
        slope = velocity(x, t_N.to(x.dtype), torch.arange(N, device=x.device))
        h_N = self._first_step(velocity, x, slope)
        evaluations_N = torch.full((N,), 2, dtype=torch.int64, device=x.device)
        for _ in range(ATTEMPTS):
            rows_A = ((t_N < 1) & (h_N >= SMALLEST)).nonzero().flatten()
            if not len(rows_A):
                break
            t_A, last_A = t_N[rows_A], h_N[rows_A] >= 1 - t_N[rows_A]
            h_A = torch.where(last_A, 1 - t_A, h_N[rows_A])
            new, slopes = _stages(velocity, x[rows_A], slope[rows_A], t_A, h_A, rows_A)
            error = _over(h_A, x) * sum(c * k for c, k in zip(_ERROR, slopes, strict=True) if c)
            size_A = self._norm(error, torch.maximum(x[rows_A].abs(), new.abs())).double()
            taken_A = size_A <= 1  # false for NaN
            rows_T = rows_A[taken_A]
            x[rows_T], slope[rows_T] = new[taken_A], slopes[-1][taken_A]
            t_N[rows_T] = torch.where(last_A, 1.0, t_A + h_A)[taken_A]
            h_N[rows_A] = h_A * _factor(size_A, taken_A)
            evaluations_N[rows_A] += 6
        return Solution(torch.where(_over(t_N, x) == 1, x, math.nan), evaluations_N)

    def _first_step(self, velocity: Derivative, x: Tensor, slope: Tensor) -> Tensor:
        """Return a step for each row by the size of x, of its slope and of the slope's change (II.4)."""
        d0_N, d1_N = self._norm(x, x.abs()).double(), self._norm(slope, x.abs()).double()
        h0_N = torch.where((d0_N < 1e-5) | (d1_N < 1e-5), 1e-6, 0.01 * d0_N / d1_N).clamp(max=1.0)
        there = velocity(x + _over(h0_N, x) * slope, h0_N.to(x.dtype), torch.arange(len(x), device=x.device))
        d2_N = self._norm(there - slope, x.abs()).double() / h0_N
        steepest_N = torch.maximum(d1_N, d2_N)
        h1_N = torch.where(steepest_N <= 1e-15, (h0_N * 1e-3).clamp(min=1e-6), (0.01 / steepest_N) ** 0.2)
        return torch.minimum(100 * h0_N, h1_N).nan_to_num(nan=0.0)

    def _norm(self, value: Tensor, size: Tensor) -> Tensor:
        """Return the root mean square of each row in units of the tolerance."""
        return (value / (self.atol + self.rtol * size)).flatten(1).square().mean(1).sqrt()


def _stages(
    velocity: Derivative, x: Tensor, slope: Tensor, t_A: Tensor, h_A: Tensor, rows_A: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return x after a step and its seven slopes; the last is the first one of the next step."""
    slopes, at = [slope], x
    for node, weights in zip(_NODES[1:], _STAGES[1:], strict=True):
        change = sum(w * k for w, k in zip(weights, slopes, strict=True) if w)
        at = x + _over(h_A, x) * change
        slopes.append(velocity(at, (t_A + node * h_A).to(x.dtype), rows_A))
    return at, slopes


def _factor(size_A: Tensor, taken_A: Tensor) -> Tensor:
    """Return by how much steps change: for an error of one next time, never far, never up after a no."""
    factor_A = (SAFETY * size_A.clamp(min=1e-10) ** -0.2).nan_to_num(nan=SHRINK, posinf=SHRINK)
    return factor_A.clamp(SHRINK, GROW).minimum(torch.where(taken_A, GROW, 1.0))


def _over(value_N: Tensor, x: Tensor) -> Tensor:
    """Return a number per row in the type of x, shaped to be multiplied with rows of x."""
    return value_N.to(x.dtype).reshape(-1, *(1 for _ in x.shape[1:]))
