"""Sliced Wasserstein distance of order 2 between feature sets, by its closed form for wide features.

Random projections of wide vectors are nearly normal, so that

    SW_2^2 ~ |mu_x - mu_y|^2 / D + (sqrt(m_x) - sqrt(m_y))^2,   m = E|x - mu|^2 / D   (Nadjahi et al. 2021)

without drawing any. It sees means and total variances alone: sets that differ only in shape score zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean, and mean squared distance to it over D (divisor n), float64, of n rows."""

    mu_D: Tensor
    spread: float
    n: int


def moments(feat_ND: Tensor) -> Moments:
    """Return the moments of N x D features."""
    x_ND = feat_ND.detach().double()
    mu_D = x_ND.mean(0)
    return Moments(mu_D, float((x_ND - mu_D).square().mean()), len(x_ND))


def sliced_wasserstein(x: Moments, y: Moments) -> float:
    """Return the approximate SW_2, in units of the features, >= 0."""
    mean_term = (x.mu_D - y.mu_D).square().mean()
    return float((mean_term + (x.spread**0.5 - y.spread**0.5) ** 2).sqrt())


def moments_without(feat_ND: Tensor, rows: Tensor) -> Moments:
    """Return the moments of all rows but some, for a jackknife."""
    kept_N = torch.ones(len(feat_ND), dtype=torch.bool)
    kept_N[rows] = False
    return moments(feat_ND[kept_N])
