"""Wasserstein distances of order 2 between points: exact on a line, sliced in more dimensions.

Along a direction W_2^2 = integral_0^1 (F^-1(u) - G^-1(u))^2 du, of the sorted projections. The sliced
distance is the root of the mean W_2^2 over directions: at most W_2 / sqrt(D), and equal to it for a shift.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genplug.protocols import EvalInputs, Score
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.subsets import choose_rows, ranked
from genplug_analysis.config import WassersteinConfig
from genplug_analysis.scoring import (
    LEVEL,
    classes_of,
    held_out_of,
    in_class,
    rows_of,
    score_of,
    suffix,
    without,
)
from genplug_metrics.intervals import Interval, deal, generator, jackknife
from genplug_metrics.scoring import check_counts


class Wasserstein:
    """Distance between samples and held-out real points, of all and of each class."""

    def __init__(self, config: WassersteinConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `wasserstein`, and `wasserstein-class-C` where both sets have labels."""
        sets = (inputs.samples, held_out_of(inputs, "wasserstein"))
        rows = [rows_of(one) for one in sets]
        labels = classes_of(*sets)
        groups = [None, *labels] if 1 < len(labels) <= self.config.per_class else [None]
        scores = {}
        for label in groups:
            fake_ND, real_MD = (r[in_class(one, label)] for r, one in zip(rows, sets, strict=True))
            if len(fake_ND):
                scores[f"wasserstein{suffix(label)}"] = self._score(fake_ND, real_MD, run.seed)
        return scores

    def _score(self, fake_ND: Tensor, real_MD: Tensor, seed: int) -> Score:
        check_counts("a Wasserstein distance", 1, real=len(real_MD), generated=len(fake_ND))
        c = self.config
        x_ND, y_MD = (ranked(choose_rows(rows, c.most, seed)).double() for rows in (fake_ND, real_MD))
        n, m, D = len(x_ND), len(y_MD), x_ND.shape[1]
        directions_DP = directions(D, c.directions)
        x_NP, y_MP = x_ND @ directions_DP, y_MD @ directions_DP
        value = sliced(x_NP, y_MP)
        spread, groups = Interval(value, value, LEVEL, "none: too few points"), min(c.groups, n // 2, m // 2)
        if groups >= 2:
            g = generator(seed)
            parts = zip(deal(n, groups, g), deal(m, groups, g), strict=True)
            values = [sliced(without(x_NP, a), without(y_MP, b)) for a, b in parts]
            spread = jackknife(value, values, LEVEL, f"jackknife over {groups} groups of points", least=0.0)
        extra = {"order": 2, "directions": directions_DP.shape[1], "exact": D == 1, "dimensions": D}
        return score_of(value, spread, (len(fake_ND), len(real_MD)), extra)


def directions(dims: int, count: int) -> Tensor:
    """Return unit vectors as columns, float64 DP: the line itself, even angles, or drawn ones."""
    if dims == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if dims == 2:
        angles_P = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
        return torch.stack([angles_P.cos(), angles_P.sin()])
    drawn_PD = NoiseSource(torch.arange(count), salt="directions").normal((count, dims), "direction")
    return torch.nn.functional.normalize(drawn_PD.double(), dim=1).T


def sliced(x_NP: Tensor, y_MP: Tensor) -> float:
    """Return the root of the mean squared W_2 over the columns."""
    n, m = len(x_NP), len(y_MP)
    x_NP, y_MP = x_NP.sort(0).values, y_MP.sort(0).values
    if n == m:
        return math.sqrt(float((x_NP - y_MP).square().mean()))
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # of u, times n m
    widths = ends.diff(prepend=torch.zeros(1, dtype=torch.int64)).double() / (n * m)
    gaps = x_NP[(ends - 1) // m] - y_MP[(ends - 1) // n]
    return math.sqrt(float((widths @ gaps.square()).mean()))
