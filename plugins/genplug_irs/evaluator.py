"""The evaluator `irs`: retrieve, count, estimate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import Distance, EvalInputs, Score
from genplug.runtime import Run
from genplug.subsets import choose_rows
from genplug_irs.config import IrsConfig
from genplug_irs.statistics import (
    adjusted_score,
    chao1,
    coupon_expected_fraction,
    estimate_reach,
    retrieval_counts,
)


class IrsEvaluator:
    """Each generated sample retrieves its nearest training sample; distinct ones are counted.

    Held-out real samples, as many as generated ones, do the same and are what the adjusted
    score is relative to. Equal training rows count once: only the first of them can be retrieved.
    """

    def __init__(self, config: IrsConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `irs` (IRS_infinity), `irs-alpha` and `irs-adjusted`."""
        if inputs.held_out is None or inputs.train is None or inputs.extractor is None:
            raise DataError("irs needs features of held-out and training data")
        extractor, alpha_e = inputs.extractor, self.config.alpha_e
        n = min(len(inputs.held_out), len(inputs.samples))
        corpus_ND = _distinct(run.features(inputs.train, extractor))
        distance = run.component("distance", self.config.distance)
        fake_N, real_N = (
            _retrieved(choose_rows(run.features(samples, extractor), n, run.seed), distance, corpus_ND)
            for samples in (inputs.samples, inputs.held_out)
        )
        N, k_fake, k_real = len(corpus_ND), int((fake_N > 0).sum()), int((real_N > 0).sum())
        reach, ratio = (
            estimate_reach(k_fake, n, N, alpha_e),
            adjusted_score(k_fake, k_real, n, N, self.config.bootstrap, seed=run.seed),
        )
        extra: dict[str, Any] = {
            "n_learned": k_fake,
            "n": n,
            "N": N,
            "alpha": n / N,
            "chao1": chao1(fake_N) / N,
        }
        extra |= {
            "ideal_alpha": coupon_expected_fraction(n, N),
            "reference_n_learned": k_real,
            "alpha_e": alpha_e,
        }
        bounds = f"Clopper-Pearson, error at most {alpha_e:g} per bound"
        value, low, high = reach.irs_inf

        def score(value: float, low: float, high: float, interval: str) -> Score:
            return Score(value, low, high, interval, n, N, extractor=extractor, extra=extra)

        return {
            "irs": score(value, low, high, bounds),
            "irs-alpha": score(reach.irs_alpha, reach.irs_alpha, reach.irs_alpha, "none: a count"),
            "irs-adjusted": score(
                ratio.value, ratio.low, ratio.high, f"{ratio.level:.0%} parametric bootstrap"
            ),
        }


def _retrieved(feat_ND: Tensor, distance: Distance, corpus_ND: Tensor) -> Tensor:
    """Return how often each training row is the nearest one."""
    _, nearest_N1 = distance.index(corpus_ND).search(feat_ND, 1)
    return retrieval_counts(nearest_N1, len(corpus_ND))


def _distinct(feat_ND: Tensor) -> Tensor:
    """Return the rows without repetitions, first occurrences in order."""
    unique, inverse_N = torch.unique(feat_ND, dim=0, return_inverse=True)
    first_U = torch.full((len(unique),), len(feat_ND), dtype=torch.int64)
    first_U.scatter_reduce_(0, inverse_N, torch.arange(len(feat_ND)), "amin")
    return feat_ND[first_U.sort().values]
