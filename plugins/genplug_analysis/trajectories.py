"""The evaluator `trajectories`: the way of each sample between two classes on a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genplug.denoiser import DenoiserGenerator
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug_analysis.boundary import LogDensity, class_count, distance_to, known_density, log_odds, roots
from genplug_analysis.config import TrajectoriesConfig
from genplug_analysis.diagnostics import bend, crossings, minimum_margin, spread_within
from genplug_analysis.drawing import trajectory_plot
from genplug_analysis.recording import Course, course_of
from genplug_analysis.scoring import LEVEL, held_out_of, left_out, rows_of, score_of
from genplug_metrics.intervals import bootstrap, bootstrap_mean, median_interval, wilson


@dataclass(frozen=True)
class Sides:
    """Log-odds of each state for its own class, TN, and the boundary's points at each level."""

    odds_TN: Tensor
    boundaries_T: list[Tensor]


class Trajectories:
    """Distance from the decision boundary, bends, crossings and spread of one-dimensional trajectories."""

    def __init__(self, config: TrajectoriesConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return the scores; none, and a line that says why, where there is no boundary on a line."""
        held_out, generator, density = (
            held_out_of(inputs, "trajectories"),
            inputs.generator,
            known_density(run),
        )
        if held_out.shape != (1,):
            return left_out(run, "trajectories", f"points have {held_out.shape[0]} dimensions, not one")
        if density is None or class_count(run) < 2:
            return left_out(run, "trajectories", "the data set knows no density of two classes or more")
        if not isinstance(generator, DenoiserGenerator) or "denoiser" not in generator.provides:
            return left_out(run, "trajectories", "the generator has no denoiser to be watched")
        count = min(self.config.count, len(inputs.samples))
        seeds_N = run.seeds("sample", count, inputs.block)
        course = course_of(generator, seeds_N, run.settings.classes, run.settings.batch_size)
        if course.labels_N is None:
            return left_out(run, "trajectories", "the generator takes no class labels")
        sides = sides_of(course, density, class_count(run), held_out)
        if len(sides.boundaries_T[-1]) == 0:
            return left_out(run, "trajectories", "the classes have no boundary among their points")
        return self._scores(course, sides, held_out, run.seed)

    def _scores(self, course: Course, sides: Sides, held_out: SampleSet, seed: int) -> dict[str, Score]:
        x_TN, labels_N = course.x_T[..., 0], course.labels_N
        assert labels_N is not None
        n, real_sd, sigmas_T = x_TN.shape[1], float(rows_of(held_out).double().std()), course.sigmas_T
        margin_N = distance_to(x_TN[-1], sides.boundaries_T[-1])
        near_N = minimum_margin(x_TN, sides.boundaries_T, sigmas_T, real_sd)
        wrong, turns_N = int((sides.odds_TN[-1] <= 0).sum()), crossings(sides.odds_TN).double()
        bend_N = bend(x_TN, sigmas_T, self.config.grid)
        plot = trajectory_plot(course, sides.boundaries_T, real_sd, self.config.drawn)
        extra: dict[str, Any] = {"noise_levels": len(sigmas_T) - 1, "real_std": real_sd}
        extra |= {
            "boundary": sides.boundaries_T[-1].tolist(),
            "per_class": _per_class(margin_N, x_TN[-1], labels_N),
        }

        def spread(rows: Tensor) -> float:
            return spread_within(x_TN[-1][rows], labels_N[rows])

        means = {"margin": margin_N, "minimum-margin": near_N, "crossings": turns_N}
        found = {
            name: (float(v_N.mean()), bootstrap_mean(v_N, level=LEVEL, seed=seed))
            for name, v_N in means.items()
        }
        found["wrong-side"] = wrong / n, wilson(wrong, n, LEVEL)
        found["bend"] = float(bend_N.quantile(0.5)), median_interval(bend_N, LEVEL)
        found["spread"] = spread(torch.arange(n)), bootstrap(spread, n, 200, LEVEL, seed)
        plots = {"trajectories and decision boundary": plot}
        return {
            name: score_of(value, interval, (n, len(held_out)), extra, plots if name == "margin" else None)
            for name, (value, interval) in found.items()
        }


def sides_of(course: Course, density: LogDensity, classes: int, held_out: SampleSet) -> Sides:
    """Return on which side of its boundary each state lies, and where boundaries are at each level."""
    assert course.labels_N is not None
    x_TN, real_N = course.x_T[..., 0], rows_of(held_out)[:, 0].double()
    odds_TN, boundaries = torch.empty_like(x_TN), []
    for t, sigma in enumerate(course.sigmas_T.tolist()):
        low = float(torch.minimum(x_TN[t].min(), real_N.min()))
        high = float(torch.maximum(x_TN[t].max(), real_N.max()))
        found = []
        for label in range(classes):
            mine = course.labels_N == label

            def odds(x_N: Tensor, sigma: float = sigma, label: int = label) -> Tensor:
                return log_odds(density, x_N[:, None], sigma, label, classes)

            odds_TN[t, mine] = odds(x_TN[t, mine])
            if label == 0 or classes > 2:  # two classes have one boundary
                found.append(roots(odds, low, high))
        boundaries.append(torch.cat(found))
    return Sides(odds_TN, boundaries)


def _per_class(margin_N: Tensor, x_N: Tensor, labels_N: Tensor) -> dict[str, dict[str, float]]:
    rows = {int(label): labels_N == label for label in labels_N.unique()}
    return {
        str(label): {
            "n": int(mine.sum()),
            "margin": float(margin_N[mine].mean()),
            "mean": float(x_N[mine].mean()),
        }
        for label, mine in rows.items()
    }
