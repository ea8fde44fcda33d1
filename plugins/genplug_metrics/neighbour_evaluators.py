"""Evaluators of who lies near whom: precision to coverage, realism, authenticity, C_T."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import Distance, EvalInputs, Score
from genplug.runtime import Run
from genplug.subsets import choose_rows, ranked
from genplug_distances.neighbours import nearest_of
from genplug_metrics.config import AuthenticityConfig, CtConfig, PrdcConfig, RealismConfig
from genplug_metrics.intervals import Interval, bootstrap_mean, difference, median_interval, normal, wilson
from genplug_metrics.memorisation import FEWEST, Cells, authentic, c_t, kmeans_cells
from genplug_metrics.prdc import prdc, realism
from genplug_metrics.rank_sums import z_variance
from genplug_metrics.scoring import (
    LEVEL,
    both_sides,
    check_counts,
    refusing_as_data,
    score,
    training,
)

_REALISTIC = 1e6  # realism of a sample that is an exact copy, where it has no value


class PrdcEvaluator:
    """Precision, recall, density and coverage on equally many real and generated samples."""

    def __init__(self, config: PrdcConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return the four scores; intervals are over rows, with the balls as they are."""
        k, convention = self.config.k, self.config.convention
        real_ND, fake_MD, extractor = both_sides(inputs, run, f"prdc with k = {k} neighbours", k + 1)
        if self.config.equal_counts:
            real_ND, fake_MD = equal_counts(real_ND, fake_MD, run.seed)
        distance: Distance = run.component("distance", self.config.distance)
        with refusing_as_data(f"prdc on {extractor}"):
            found = prdc(real_ND, fake_MD, [k], convention=convention, distance=distance, run=run)[k]
        intervals = {
            "precision": _share(found.precise_M),
            "recall": _share(found.recalled_N),
            "density": bootstrap_mean(found.hits_M.double() / k, level=LEVEL, seed=run.seed),
            "coverage": _share(found.covered_N),
        }
        extra = {"k": k, "convention": convention, "distance": self.config.distance.name}
        counts = (len(fake_MD), len(real_ND))
        return {
            name: score(name, getattr(found, name), _as_they_are(interval), counts, extractor, extra)
            for name, interval in intervals.items()
        }


def equal_counts(real_ND: Tensor, fake_MD: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return as many real as generated rows: the scores depend on both counts."""
    n = min(len(real_ND), len(fake_MD))
    return choose_rows(real_ND, n, seed), choose_rows(fake_MD, n, seed)


class RealismEvaluator:
    """Realism of the typical generated sample: above 1 inside a real ball, the higher the deeper."""

    def __init__(self, config: RealismConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `realism`, the median over samples; beside it the share above 1."""
        k = self.config.k
        real_ND, fake_MD, extractor = both_sides(inputs, run, f"realism with k = {k} neighbours", k + 1)
        distance: Distance = run.component("distance", self.config.distance)
        with refusing_as_data(f"realism on {extractor}"):
            values_M = realism(real_ND, fake_MD, k, distance, run=run)
        copies = int(values_M.isinf().sum())
        values_M = values_M.clamp_max(_REALISTIC)
        extra = {"k": k, "distance": self.config.distance.name, "statistic": "median over samples"}
        extra |= {"share_above_1": float((values_M > 1).double().mean()), "exact_copies": copies}
        counts = (len(fake_MD), len(real_ND))
        value = float(values_M.quantile(0.5))
        return {
            "realism": score(
                "realism", value, _as_they_are(median_interval(values_M, LEVEL)), counts, extractor, extra
            )
        }


class AuthenticityEvaluator:
    """Share of samples that are no near copies of training samples, of generated and of held-out ones.

    A sample is authentic unless it and its nearest training sample are each other's nearest. Fresh samples of
    the training distribution are so only in part: a third in one dimension, half in several, more where few
    rows are near to many. What held-out samples have is therefore what generated ones should have.
    """

    def __init__(self, config: AuthenticityConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `authenticity` in [0, 1] (AuthPct is 100 times that) and its gap to held-out samples."""
        real_ND, fake_MD, extractor = both_sides(inputs, run, "authenticity", 1)
        train_ND = training(inputs, run, "authenticity")
        check_counts("authenticity", 2, training=len(train_ND))
        distance: Distance = run.component("distance", self.config.distance)
        with refusing_as_data(f"authenticity on {extractor}"):
            ours, theirs = (authentic(train_ND, feat, distance, run) for feat in (fake_MD, real_ND))
        value, reference = (float(share.double().mean()) for share in (ours, theirs))
        extra = {
            "authpct": 100 * value,
            "of_held_out": reference,
            "distance": self.config.distance.name,
            "n_train": len(train_ND),
        }
        gap = difference(_share(ours), value, _share(theirs), reference)
        counts = (len(fake_MD), len(real_ND))
        return {
            "authenticity": score("authenticity", value, _share(ours), counts, extractor, extra),
            "authenticity-gap": score("authenticity-gap", value - reference, gap, counts, extractor, extra),
        }


class CtEvaluator:
    """C_T: whether generated samples are nearer to the training data than held-out ones, cell by cell."""

    def __init__(self, config: CtConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `ct`, in standard deviations: about 0 is right, far below copies, far above is far off."""
        test_ND, fake_MD, extractor = both_sides(inputs, run, "C_T", 2)
        train_ND = ranked(training(inputs, run, "C_T"))  # k-means begins at random rows
        check_counts("C_T", 1, training=len(train_ND))
        distance: Distance = run.component("distance", self.config.distance)
        cells = kmeans_cells(train_ND, test_ND, fake_MD, self.config.cells, run.seed)
        with refusing_as_data(f"ct on {extractor}"):
            found = c_t(train_ND, test_ND, fake_MD, cells, distance, run)
        if not found.cells:
            raise DataError(
                f"ct on {extractor}: no cell has {FEWEST} of the {len(fake_MD)} generated samples and real "
                "ones; make more samples, or fewer cells (evaluator.ct.cells)"
            )
        deviation = self._deviation(train_ND, test_ND, fake_MD, cells, found.weight_C, distance, run)
        half = normal(LEVEL) * deviation
        kind = "normal interval over rows of both sets in their cells (DeLong), training rows as they are"
        spread = Interval(found.value - half, found.value + half, LEVEL, kind)
        extra = {
            "cells": found.cells,
            "z_of_cells": [None if math.isnan(z) else z for z in found.z_C.tolist()],
            "weights": found.weight_C.tolist(),
            "fewest_in_a_cell": FEWEST,
            "distance": self.config.distance.name,
            "n_train": len(train_ND),
        }
        return {"ct": score("ct", found.value, spread, (len(fake_MD), len(test_ND)), extractor, extra)}

    def _deviation(
        self,
        train_ND: Tensor,
        test_ND: Tensor,
        fake_MD: Tensor,
        cells: Cells,
        weight_C: Tensor,
        distance: Distance,
        run: Run,
    ) -> float:
        """Return the standard deviation of the weighted mean of Z, from that of each cell's."""
        variance = 0.0
        for c in weight_C.nonzero().flatten().tolist():
            train = train_ND[cells.train_N == c]
            inside = test_ND[cells.test_n == c], fake_MD[cells.fake_M == c]
            test_n, fake_M = (nearest_of(run, distance, rows, train)[0][:, 0] for rows in inside)
            variance += float(weight_C[c]) ** 2 * z_variance(fake_M, test_n)
        return math.sqrt(variance) / float(weight_C.sum())


def _as_they_are(interval: Interval) -> Interval:
    """Say that the balls were not drawn anew: with other samples the score changes more than this."""
    return replace(interval, kind=f"{interval.kind}, balls as they are")


def _share(hits: Tensor) -> Interval:
    return wilson(int(hits.sum()), len(hits), LEVEL)
