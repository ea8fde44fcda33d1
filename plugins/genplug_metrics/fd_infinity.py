"""Frechet distance of infinitely many generated samples, by extrapolation.

The distance of n samples to a fixed reference is biased upwards by nearly b / n (Chong and Forsyth 2020), so
the distances of growing subsets are fitted by a + b / n; the intercept a is the estimate. It may fall below
zero by chance. The bias that a finite reference has of its own stays.

Legend: N generated rows, D feature width, S subset sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genplug_metrics.frechet import Fitted, GaussianStats, fit_rows, frechet_distance


@dataclass(frozen=True)
class Extrapolation:
    """Subset sizes, their distances and the least-squares line value + slope / n."""

    sizes: tuple[int, ...]
    distances_S: Tensor
    value: float
    slope: float


def fd_infinity(feat_ND: Tensor, reference: Fitted, sizes: Sequence[int]) -> Extrapolation:
    """Extrapolate from the first sizes[0], sizes[1], ... rows, in random order; sizes ascend.

    Each subset holds the one before it, so one pass over the rows serves all that have more than D.
    """
    width = feat_ND.shape[1]
    stats: GaussianStats | None = None
    distances, done = [], 0
    for size in sizes:
        if size <= width:
            subset = fit_rows(feat_ND[:size])
        else:
            stats = (stats or GaussianStats(width)).update(feat_ND[done:size])
            subset, done = stats.finish(), size
        distances.append(frechet_distance(subset, reference).value)
    distances_S = torch.tensor(distances, dtype=torch.float64)
    value, slope = line([1 / n for n in sizes], distances_S)
    return Extrapolation(tuple(sizes), distances_S, value, slope)


def line(x: Sequence[float], y_S: Tensor) -> tuple[float, float]:
    """Return intercept and slope of the least-squares line through at least two different x."""
    x_S = torch.tensor(x, dtype=torch.float64)
    centred_S = x_S - x_S.mean()
    slope = float((centred_S @ y_S) / centred_S.square().sum())
    return float(y_S.mean()) - slope * float(x_S.mean()), slope


def even_sizes(smallest: int, largest: int, count: int) -> list[int]:
    """Return distinct subset sizes, evenly spread from `smallest` to `largest`, both included."""
    return sorted({round(smallest + i * (largest - smallest) / (count - 1)) for i in range(count)})
