"""The evaluator `points-plot`: points of each class over real ones, and what mass they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.subsets import choose_rows
from genplug_analysis.boundary import class_count, known_density, log_odds, roots
from genplug_analysis.config import PointsPlotConfig
from genplug_analysis.drawing import REAL, class_colour, class_plot, histogram_plot
from genplug_analysis.scoring import LEVEL, classes_of, held_out_of, in_class, rows_of, score_of, without
from genplug_metrics.intervals import Interval, deal, generator, jackknife


class PointsPlot:
    """A picture of the first two coordinates, and the overlap of their histograms."""

    def __init__(self, config: PointsPlotConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `overlap`, the sum over cells of the smaller of both shares, with the picture."""
        held_out = held_out_of(inputs, "points-plot")
        fake_N2, real_M2 = (plane(rows_of(some)) for some in (inputs.samples, held_out))
        fake_N, real_M = cells(fake_N2, real_M2, self.config.cells)
        value, spread = overlap(fake_N, real_M), Interval(0.0, 1.0, LEVEL, "none: too few points")
        groups = min(self.config.groups, len(fake_N) // 2, len(real_M) // 2)
        if groups >= 2:
            g = generator(run.seed)
            order = [part.argsort(stable=True) for part in (fake_N, real_M)]  # not where rows stand
            parts = zip(deal(len(fake_N), groups, g), deal(len(real_M), groups, g), strict=True)
            x_N, y_M = fake_N[order[0]], real_M[order[1]]
            values = [overlap(without(x_N, a), without(y_M, b)) for a, b in parts]
            spread = jackknife(value, values, LEVEL, f"jackknife over {groups} groups of points", least=0.0)
        extra = {"cells": self.config.cells**2}
        plots = {"points by class": self._picture(inputs, fake_N2, real_M2, run)}
        return {"overlap": score_of(value, spread, (len(fake_N), len(real_M)), extra, plots)}

    def _picture(self, inputs: EvalInputs, fake_N2: Tensor, real_M2: Tensor, run: Run) -> str:
        """Draw the classes on the plane, or histograms of them on a line."""
        most, density, classes = self.config.drawn, known_density(run), class_count(run)
        known, dims = density is not None and classes == 2, inputs.samples.shape[0]

        def odds(x_ND: Tensor) -> Tensor:
            assert density is not None
            return log_odds(density, x_ND, 0.0, 0, classes)

        groups = {c: fake_N2[in_class(inputs.samples, c)] for c in classes_of(inputs.samples)}
        if dims == 1:
            low, high = float(real_M2[:, 0].min()), float(real_M2[:, 0].max())
            marks = roots(lambda x_N: odds(x_N[:, None]), low, high).tolist() if known else []
            return line_picture(groups, real_M2, marks)
        drawn = {label: choose_rows(points, most, run.seed) for label, points in groups.items()}
        behind = choose_rows(real_M2, most * len(drawn), run.seed)
        return class_plot("points by class", drawn, behind, odds if known and dims == 2 else None)


def line_picture(groups: Mapping[int | None, Tensor], real_M2: Tensor, marks: Sequence[float]) -> str:
    """Draw histograms of the first coordinate, one per class, and of the real points."""
    sets = {
        "generated" if label is None else f"class {label}": (points[:, 0], class_colour(label))
        for label, points in groups.items()
    }
    note = "share in each bin" + ("; dashed: the decision boundary" if marks else "")
    return histogram_plot("points by class", note, {"real": (real_M2[:, 0], REAL), **sets}, marks)


def plane(x_ND: Tensor) -> Tensor:
    """Return the first two coordinates; of points on a line, zeros as the second one."""
    return x_ND[:, :2] if x_ND.shape[1] > 1 else torch.cat([x_ND, torch.zeros_like(x_ND)], 1)


def cells(fake_N2: Tensor, real_M2: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the cell of each point, int64, on a grid over the real points; -1 outside."""
    low, high = real_M2.amin(0), real_M2.amax(0)
    size = ((high - low) / count).clamp(min=torch.finfo(torch.float32).tiny)

    def cell(x_N2: Tensor) -> Tensor:
        at_N2 = ((x_N2 - low) / size).floor()
        at_N2 = torch.where(x_N2 == high, count - 1, at_N2)
        inside_N = ((x_N2 >= low) & (x_N2 <= high)).all(1)
        index_N = at_N2.clamp(0, count - 1).long() @ torch.tensor([count, 1])
        return torch.where(inside_N, index_N, -1)

    return cell(fake_N2), cell(real_M2)


def overlap(fake_N: Tensor, real_M: Tensor) -> float:
    """Return the sum over cells of the smaller share: 1 less the total variation of both histograms."""
    known = int(max(fake_N.max(), real_M.max())) + 1
    fake, real = (torch.bincount(c[c >= 0], minlength=known).double() / len(c) for c in (fake_N, real_M))
    return float(torch.minimum(fake, real).sum())
