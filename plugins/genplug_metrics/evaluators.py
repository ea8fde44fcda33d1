"""The evaluators `frechet` and `prdc`: features in, scores with intervals out."""

from __future__ import annotations

from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.subsets import choose_rows
from genplug_distances.exact import Cosine, Euclidean
from genplug_metrics.config import FrechetConfig, PrdcConfig
from genplug_metrics.frechet import frechet_from_features
from genplug_metrics.intervals import Interval, bootstrap_mean, frechet_jackknife, wilson
from genplug_metrics.prdc import prdc

_LEVEL = 0.9


class FrechetEvaluator:
    """Frechet distance; the score is named `fd`, and `fd-EXTRACTOR` in results, never FID."""

    def __init__(self, config: FrechetConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `fd`, with both of its terms."""
        held_out, extractor = _features_of(inputs)
        real_ND, fake_MD = run.features(held_out, extractor), run.features(inputs.samples, extractor)
        n, m = len(real_ND), len(fake_MD)
        if min(n, m) < 2:
            raise DataError(
                f"a Frechet distance needs at least 2 samples a side, not {n} real and {m} generated"
            )
        found = frechet_from_features(fake_MD, real_ND)
        groups = min(self.config.groups, n // 2, m // 2)
        spread = (
            frechet_jackknife(fake_MD, real_ND, groups, _LEVEL, run.seed)
            if groups >= 2
            else Interval(0.0, float("inf"), _LEVEL, "none: too few samples")
        )
        extra = {"mean_term": found.mean_term, "cov_term": found.cov_term, "dimensions": real_ND.shape[1]}
        extra["rank_deficient"] = min(n, m) <= real_ND.shape[1]
        return {"fd": _score(found.value, spread, m, n, extractor, extra)}


class PrdcEvaluator:
    """Precision, recall, density and coverage on equally many real and generated samples."""

    def __init__(self, config: PrdcConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return the four scores; intervals are over rows, with the balls as they are."""
        held_out, extractor = _features_of(inputs)
        real_ND, fake_MD = run.features(held_out, extractor), run.features(inputs.samples, extractor)
        if self.config.equal_counts:
            real_ND, fake_MD = equal_counts(real_ND, fake_MD, run.seed)
        n, m, k = len(real_ND), len(fake_MD), self.config.k
        if min(n, m) <= k:
            raise DataError(
                f"k = {k} neighbours need more than {k} samples a side, not {n} real and {m} generated"
            )
        distance = Cosine() if self.config.distance == "cosine" else Euclidean()
        strict = self.config.convention == "<"
        found = prdc(real_ND, fake_MD, [k], strict=strict, distance=distance)[k]
        intervals = {
            "precision": _share(found.hits_M > 0),
            "recall": _share(found.recalled_N),
            "density": bootstrap_mean(found.hits_M / k, level=_LEVEL, seed=run.seed),
            "coverage": _share(found.covered_N),
        }
        extra = {"k": k, "convention": self.config.convention, "distance": self.config.distance}
        return {
            name: _score(getattr(found, name), interval, m, n, extractor, extra)
            for name, interval in intervals.items()
        }


def equal_counts(real_ND: Tensor, fake_MD: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return as many real as generated rows: the scores depend on both counts."""
    n = min(len(real_ND), len(fake_MD))
    return choose_rows(real_ND, n, seed), choose_rows(fake_MD, n, seed)


def _features_of(inputs: EvalInputs) -> tuple[SampleSet, str]:
    if inputs.held_out is None or inputs.extractor is None:
        raise DataError("features of held-out real data are needed")
    return inputs.held_out, inputs.extractor


def _share(hits: Tensor) -> Interval:
    return wilson(int(hits.sum()), len(hits), _LEVEL)


def _score(
    value: float, interval: Interval, n_generated: int, n_real: int, extractor: str, extra: dict
) -> Score:  # type: ignore[type-arg]
    kind = f"{interval.level:.0%} {interval.kind}"
    return Score(
        value, interval.low, interval.high, kind, n_generated, n_real, extractor=extractor, extra=extra
    )
