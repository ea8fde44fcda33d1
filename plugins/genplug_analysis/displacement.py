"""The evaluator `displacement`: how far an improvement moves each sample of the base, seed by seed.

That an improvement takes samples to the manifold shows in who moves: samples that lie on it already should
stay (sections 3.5 and 3.7 of the methods after arXiv 2503.10638).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Generator, Score
from genplug.runtime import Run
from genplug.samplesets import ArraySet, subsample
from genplug.subsets import choose_rows
from genplug_analysis.boundary import class_count, known_density, log_odds
from genplug_analysis.config import DisplacementConfig
from genplug_analysis.drawing import move_plot
from genplug_analysis.scoring import LEVEL, held_out_of, left_out, rows_of, score_of
from genplug_distances.neighbours import nearest_of, nearest_others
from genplug_irs.plots import Curve, curve_plot
from genplug_metrics.intervals import Interval, bootstrap, bootstrap_mean

DRAWN = 300  # moves in a picture
VALUES = 2**28  # of a set that are in memory as float32: 1 GiB


class Displacement:
    """Mean Euclidean move between the samples of equal seeds, of points or of pixels in [0, 1]."""

    def __init__(self, config: DisplacementConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `displacement`, of samples near to and far from real ones, and the ratio of these two."""
        held_out, base, improved = held_out_of(inputs, "displacement"), inputs.base, inputs.generator
        if base is None or improved is None:
            raise DataError("displacement needs both generators")
        if len(held_out) < 2:
            raise DataError("displacement needs two held-out samples")
        fitting = max(2, VALUES // math.prod(held_out.shape))
        sizes = [one.size for one in (base, improved) if one.size is not None]
        count = min(self.config.count, len(inputs.samples), fitting, *sizes)
        seeds_N = run.seeds("sample", count, inputs.block)
        held_out = subsample(held_out, fitting, run.seed)
        before, after = (drawn(one, seeds_N, run) for one in (base, improved))
        if before.shape != after.shape or before.shape != held_out.shape:
            shapes = f"{before.shape}, {after.shape} and {held_out.shape}"
            return left_out(run, "displacement", f"base, result and real samples are of shapes {shapes}")
        distance = run.component("distance", self.config.distance)
        x_ND, real_MD = rows_of(before), rows_of(held_out)
        move_N = (rows_of(after).double() - x_ND.double()).norm(dim=1)
        distance_N = nearest_of(run, distance, x_ND, real_MD)[0][:, 0]
        real_M = nearest_others(run, distance, real_MD, 1)[0][:, 0]
        limit = float(real_M.quantile(1 - self.config.outside))
        curves = {"distance to real samples": binned(distance_N, move_N, self.config.bins)}
        odds_N = self._odds(before, run)
        if odds_N is not None:
            curves["log-odds of the own class"] = binned(odds_N, move_N, self.config.bins)
        plots = {f"move by {name}": _curve(name, curve) for name, curve in curves.items()}
        if before.shape == (2,):
            some = torch.arange(min(DRAWN, len(x_ND)))
            behind = choose_rows(real_MD, 4 * DRAWN, run.seed)
            plots["moves"] = move_plot("moves", x_ND[some], rows_of(after)[some], behind)
        extra: dict[str, Any] = {"near_is_within": limit, "curves": curves}
        return scores_of(move_N, distance_N > limit, len(held_out), run.seed, extra, plots)

    def _odds(self, samples: ArraySet, run: Run) -> Tensor | None:
        """Return the log-odds of each sample for its own class, where the classes' densities are known."""
        density, classes, labels = known_density(run), class_count(run), samples.labels
        if density is None or classes < 2 or labels is None or len(samples.shape) != 1:
            return None
        odds_N, x_ND = torch.empty(len(samples), dtype=torch.float64), rows_of(samples)
        for label in range(classes):
            mine = labels == label
            odds_N[mine] = log_odds(density, x_ND[mine], self.config.margin_sigma, label, classes)
        return odds_N


def drawn(generator: Generator, seeds_N: Tensor, run: Run) -> ArraySet:
    """Return the samples of seeds with their labels."""
    parts, labels = [], []
    for batch_N in seeds_N.split(run.settings.batch_size):
        cond = generator.conditions(batch_N, run.settings.classes)
        with torch.inference_mode():
            parts.append(generator.sample(batch_N, cond).cpu())
        labels += [cond.labels_N] if cond is not None and cond.labels_N is not None else []
    return ArraySet(torch.cat(parts), torch.cat(labels) if labels else None, "samples of the same seeds")


def scores_of(
    move_N: Tensor, far_N: Tensor, n_real: int, seed: int, extra: dict[str, Any], plots: dict[str, str]
) -> dict[str, Score]:
    """Return mean moves with their intervals; those of a side without samples are left out."""
    n, sides = len(move_N), {"-near": ~far_N, "-far": far_N}
    extra = {**extra, "share_far": float(far_N.double().mean())}

    def mean(rows_N: Tensor) -> tuple[float, Interval]:
        return float(rows_N.mean()), bootstrap_mean(rows_N, level=LEVEL, seed=seed)

    scores = {"displacement": score_of(*mean(move_N), (n, n_real), extra, plots)}
    for name, side_N in sides.items():
        if bool(side_N.any()):
            own = {**extra, "samples": int(side_N.sum())}
            scores[f"displacement{name}"] = score_of(*mean(move_N[side_N]), (n, n_real), own)
    near_A, far_B = (move_N[side_N].sort().values for side_N in (~far_N, far_N))
    if len(near_A) and bool(far_B.any()):
        value, interval = _ratio(near_A, far_B, seed)
        scores["displacement-near-to-far"] = score_of(value, interval, (n, n_real), extra)
    return scores


def _ratio(near_A: Tensor, far_B: Tensor, seed: int) -> tuple[float, Interval]:
    """Return mean move of near samples over that of far ones, both drawn anew for the interval."""
    a, tiny = len(near_A), torch.finfo(torch.float64).tiny
    both, is_far = torch.cat([near_A, far_B]), torch.arange(a + len(far_B)) >= a

    def ratio(rows: Tensor) -> float:
        side_N, move_N = is_far[rows], both[rows]
        if not bool(side_N.any()) or bool(side_N.all()):
            return float(near_A.mean()) / float(far_B.mean())
        return float(move_N[~side_N].mean()) / max(float(move_N[side_N].mean()), tiny)

    return float(near_A.mean()) / float(far_B.mean()), bootstrap(ratio, len(both), 500, LEVEL, seed)


def binned(by_N: Tensor, move_N: Tensor, bins: int) -> dict[str, list[float]]:
    """Return mean moves of equally large groups in the order of a number, with the group's median of it."""
    groups = [rows for rows in by_N.argsort(stable=True).tensor_split(bins) if len(rows)]
    return {
        "at": [float(by_N[rows].double().quantile(0.5)) for rows in groups],
        "move": [float(move_N[rows].mean()) for rows in groups],
        "error": [float(move_N[rows].std(correction=0)) / len(rows) ** 0.5 for rows in groups],
    }


def _curve(name: str, curve: dict[str, Sequence[float]] | dict[str, list[float]]) -> str:
    moves = list(zip(curve["move"], curve["error"], strict=True))
    line = Curve(
        "mean move, ± 2 standard errors",
        curve["at"],
        curve["move"],
        dots=True,
        low=[max(0.0, move - 2 * error) for move, error in moves],
        high=[move + 2 * error for move, error in moves],
    )
    return curve_plot("mean move", f"by {name}, equally large groups", name, [line])
