"""The evaluator `irs`: retrieve, count, estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.subsets import choose_rows, ranked
from genplug_irs.config import BoundsConfig, IrsConfig
from genplug_irs.plots import Curve, curve_plot
from genplug_irs.retrieval import Corpus, Retrieved, check_held_out, corpus_of, retrieve, two_pools
from genplug_irs.statistics import (
    Reach,
    adjusted_score,
    chao1,
    coupon_expected_fraction,
    estimate_reach,
    expected_distinct,
    k_min,
    mean_reach,
    reach_at,
    share_of,
)

POINTS = 24  # of a drawn curve


class IrsEvaluator:
    """Each generated sample retrieves its nearest training sample; distinct ones are counted.

    Held-out real samples, as many as generated ones, do the same and are what the adjusted score is
    relative to. Where generated samples are a whole multiple of them, scores are means over folds.
    """

    def __init__(self, config: IrsConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `irs` (IRS_infinity), `irs-alpha` and `irs-adjusted`."""
        held_out, train = two_pools(inputs.held_out, inputs.train)
        if inputs.extractor is None:
            raise DataError("irs needs an extractor's features; name one")
        found = self._retrieve(inputs.samples, held_out, train, inputs.extractor, run)
        return scores_of(found, self.config, inputs.extractor, run.seed)

    def _retrieve(
        self, samples: SampleSet, held_out: SampleSet, train: SampleSet, extractor: str, run: Run
    ) -> Retrievals:
        n = min(len(held_out), len(samples))
        folds = len(samples) // n if len(samples) % n == 0 else 1
        corpus = corpus_of(run.features(train, extractor))

        def search(some: SampleSet, count: int) -> Retrieved:
            rows_nD = ranked(choose_rows(run.features(some, extractor), count, run.seed))
            return retrieve(run, rows_nD, corpus, self.config.distance)

        fake, real = search(samples, n * folds), search(held_out, n)
        check_held_out(real, held_out.name, extractor)
        return Retrievals(corpus, fake, real, _folds(fake, n, run.seed))


def _folds(found: Retrieved, n: int, seed: int) -> list[Retrieved]:
    """Cut into parts of n by a seed; rows are ranked by what they hold, so their order does not matter."""
    drawn = torch.randperm(len(found.d_n), generator=torch.Generator().manual_seed(seed))
    return [found.take(rows) for rows in drawn.split(n)]


@dataclass(frozen=True)
class Retrievals:
    """What generated samples, their folds and real samples retrieve; n samples in each fold and of real."""

    corpus: Corpus
    fake: Retrieved
    real: Retrieved
    folds: Sequence[Retrieved]

    @property
    def n(self) -> int:
        return len(self.real.d_n)

    @property
    def N(self) -> int:
        return len(self.corpus)


def scores_of(found: Retrievals, config: IrsConfig, extractor: str, seed: int) -> dict[str, Score]:
    """Turn what was retrieved into scores."""
    n, N, ks = found.n, found.N, [fold.k for fold in found.folds]
    reaches = [estimate_reach(k, n, N, config.per_bound) for k in ks]
    value, low, high = mean_reach(reaches)
    interval = bounds_text(config)
    if len(ks) > 1:
        interval += f"; over {len(ks)} folds, the mean of their lower bounds and the largest upper one"
    ratio = adjusted_score(ks, found.real.k, n, N, config.bootstrap, config.level, seed)
    alpha = sum(ks) / len(ks) / N
    extra = _facts(found, reaches, config)
    plots = {f"distinct training images retrieved, {extractor}": growth_plot(found, reaches)}

    def score(value: float, low: float, high: float, interval: str, **more: Any) -> Score:
        return Score(value, low, high, interval, n * len(ks), N, extractor=extractor, extra=extra, **more)

    return {
        "irs": score(value, low, high, interval, plots=plots),
        "irs-alpha": score(alpha, alpha, alpha, "none: a count"),
        "irs-adjusted": score(
            ratio.value,
            ratio.low,
            ratio.high,
            f"{ratio.level:.0%} parametric bootstrap of both counts{' (mean ends of folds)' * (len(ks) > 1)}",
        ),
    }


def bounds_text(config: BoundsConfig) -> str:
    """Say what the bounds are, and how often each of them and both together may err."""
    return (
        f"Clopper-Pearson, error at most {config.per_bound:g} per bound, {2 * config.per_bound:g} in all; "
        "equally likely images assumed"
    )


def _facts(found: Retrievals, reaches: Sequence[Reach], config: IrsConfig) -> dict[str, Any]:
    """Return everything else there is to know, as plain numbers."""
    n, N, error = found.n, found.N, config.per_bound
    first, real = reaches[0], estimate_reach(found.real.k, n, N, error)
    threshold = k_min(n, share_of(config.target, N), error)
    sizes = sorted({max(1, round(share * n)) for share in config.shares} | {n})
    by_alpha = [_row(reach_at(found.folds[0].counts_N, m, N, error)) for m in sizes]
    return {
        "n": n,
        "N": N,
        "alpha": n / N,
        "repeated_training_images": found.corpus.repeated,
        "n_learned": first.k,
        "folds": [_row(reach) for reach in reaches],
        "reference": _row(real),
        "reference_n_learned": real.k,
        "ideal_alpha": coupon_expected_fraction(n, N),
        "chao1": chao1(found.folds[0].counts_N) / N,
        "reference_chao1": chao1(found.real.counts_N) / N,
        "by_alpha": by_alpha,
        "rises_with_alpha": by_alpha[0]["high"] < by_alpha[-1]["irs"],
        "target": config.target,
        "k_min": threshold,
        "rejected": first.k < threshold,
        "copies_of_training": found.fake.copies,
        "alpha_e": error,
    }


def _row(reach: Reach) -> dict[str, float]:
    value, low, high = reach.irs_inf
    return {
        "n": reach.n,
        "alpha": reach.n / reach.N,
        "n_learned": reach.k,
        "irs_alpha": reach.irs_alpha,
        "irs": value,
        "low": low,
        "high": high,
    }


def growth_plot(found: Retrievals, reaches: Sequence[Reach]) -> str:
    """Draw K against the number of samples: seen, real, the fitted s and the ideal curve."""
    sizes = sorted({max(1, round(found.n * i / POINTS)) for i in range(1, POINTS + 1)})
    s_hat = reaches[0].s_hat

    def seen(name: str, counts_N: Tensor) -> Curve:
        return Curve(name, sizes, [expected_distinct(counts_N, m) for m in sizes])

    def law(name: str, s: int) -> Curve:
        return Curve(name, sizes, [s * coupon_expected_fraction(m, s) for m in sizes], dashed=True)

    curves = [
        seen("generated", found.folds[0].counts_N),
        law(f"fitted to generated, s = {s_hat}", s_hat),
        seen("held-out real", found.real.counts_N),
        law(f"ideal, all {found.N} training images", found.N),
    ]
    return curve_plot("distinct training images retrieved", "by number of samples", "samples", curves)
