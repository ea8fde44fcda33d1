"""Sliced Wasserstein distance of order 2 between feature sets, by its closed form for wide features.

Random projections of wide vectors are nearly normal, so that

    SW_2^2 ~ |mu_x - mu_y|^2 / D + (sqrt(m_x) - sqrt(m_y))^2,   m = E|x - mu|^2 / D   (Nadjahi et al. 2021)

without drawing any. It sees means and total variances alone: sets that differ only in shape score zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

ROWS = 4096  # rows in float64 at a time


@dataclass(frozen=True)
class Moments:
    """Count of rows, their mean, and the sum of squared distances to it, float64."""

    n: int
    mu_D: Tensor
    scatter: float

    @property
    def spread(self) -> float:
        """Mean squared distance to the mean, over D (divisor n)."""
        return self.scatter / (self.n * len(self.mu_D))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the rows of both (Chan et al. 1983)."""
        n, delta_D = self.n + other.n, other.mu_D - self.mu_D
        between = float(delta_D.square().sum()) * self.n * other.n / n
        return Moments(n, self.mu_D + delta_D * (other.n / n), self.scatter + other.scatter + between)


def moments(feat_ND: Tensor) -> Moments:
    """Return the moments of N x D features, of which a piece is in float64 at a time."""
    pieces = (piece_ND.detach().double() for piece_ND in torch.split(feat_ND, ROWS))
    return reduce(Moments.merge, map(_moments, pieces))


def _moments(x_ND: Tensor) -> Moments:
    mu_D = x_ND.mean(0)
    return Moments(len(x_ND), mu_D, float((x_ND - mu_D).square().sum()))


def leave_one_out(parts: Sequence[Moments]) -> list[Moments]:
    """Return the moments of all rows but those of each part in turn."""
    others = [[part for number, part in enumerate(parts) if number != out] for out in range(len(parts))]
    return [reduce(Moments.merge, some) for some in others]


def sliced_wasserstein(x: Moments, y: Moments) -> float:
    """Return the approximate SW_2, in units of the features, >= 0."""
    mean_term = (x.mu_D - y.mu_D).square().mean()
    return float((mean_term + (x.spread**0.5 - y.spread**0.5) ** 2).sqrt())
