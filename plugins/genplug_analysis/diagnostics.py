"""Numbers of one-dimensional trajectories x_T ... x_0 about a decision boundary b_t (section 3.3 of the
methods after arXiv 2503.10638). Legend: T noise levels from high to low, the last one 0; N trajectories.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genplug_analysis.boundary import distance_to


def minimum_margin(x_TN: Tensor, boundaries_T: Sequence[Tensor], sigmas_T: Tensor, spread: float) -> Tensor:
    """Return min over t of |x_t - b_t| / sqrt(spread^2 + sigma_t^2), N, where there is a boundary."""
    scale_T = (sigmas_T.square() + spread**2).sqrt()
    margins = [
        distance_to(x_N, b_R) / s for x_N, b_R, s in zip(x_TN, boundaries_T, scale_T, strict=True) if len(b_R)
    ]
    return torch.stack(margins).amin(0)


def crossings(odds_TN: Tensor) -> Tensor:
    """Return how often each trajectory changes the side of the boundary, N; odds are positive on its own."""
    return (odds_TN[1:] > 0).ne(odds_TN[:-1] > 0).sum(0)


def bend(x_TN: Tensor, sigmas_T: Tensor, levels: int) -> Tensor:
    """Return sum |x_{i+1} - 2 x_i + x_{i-1}| / |x_T - x_0|, N, on levels that are even in ln sigma.

    States between two steps lie on the line in ln sigma between them; x_0 itself, at sigma = 0, is only
    in the divisor.
    """
    at_T, inside_TN = sigmas_T[sigmas_T > 0].log(), x_TN[sigmas_T > 0]
    grid_L = torch.linspace(float(at_T[0]), float(at_T[-1]), levels, dtype=at_T.dtype)
    after_L = torch.searchsorted(-at_T, -grid_L).clamp(1, len(at_T) - 1)
    share_L1 = ((grid_L - at_T[after_L - 1]) / (at_T[after_L] - at_T[after_L - 1]))[:, None]
    path_LN = torch.lerp(inside_TN[after_L - 1], inside_TN[after_L], share_L1)
    turns_N = path_LN.diff(n=2, dim=0).abs().sum(0)
    return turns_N / (x_TN[0] - x_TN[-1]).abs().clamp(min=torch.finfo(x_TN.dtype).tiny)


def spread_within(x_N: Tensor, labels_N: Tensor) -> float:
    """Return the standard deviation within classes: the root of their mean variance."""
    variances = [x_N[labels_N == label].var() for label in labels_N.unique() if (labels_N == label).sum() > 1]
    return float(torch.stack(variances).mean().sqrt()) if variances else 0.0
