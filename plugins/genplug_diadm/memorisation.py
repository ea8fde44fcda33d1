"""Are samples copies of training images? Distances to the nearest, and to that whose features they got.

Legend: M generated samples, n held-out ones, N training ones, D feature width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import Distance, EvalInputs, Score
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.samplesets import ArraySet, Quantised, SampleSet
from genplug_diadm.config import MemorisationConfig
from genplug_distances.neighbours import nearest_of
from genplug_metrics.intervals import Interval, median_interval, wilson
from genplug_metrics.scoring import LEVEL, both_sides, check_counts, refusing_as_data, score, training


class MemorisationEvaluator:
    """Distance of samples to training ones against that of held-out samples, which no training saw."""

    def __init__(self, config: MemorisationConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `nearest-ratio` and `copies`; for a DiADM generator also both of its source images.

        nearest-ratio         median distance to the nearest training sample, over that of held-out samples:
                              1 is right, below 1 is nearer to training samples than real samples are
        copies                share of samples nearer than `quantile` of the held-out ones: about `quantile`
        nearest-ratio-source  median distance to the image whose features a sample got, over that to a random
                              training image: 1 where features say nothing, 0 where the image is copied
        copies-source         share of samples whose nearest training image is that one
        """
        real_ND, fake_MD, extractor = both_sides(inputs, run, "memorisation", 2)
        train_ND = training(inputs, run, "memorisation")
        check_counts("memorisation", 2, training=len(train_ND))
        distance: Distance = run.component("distance", self.config.distance)
        with refusing_as_data(f"memorisation on {extractor}"):
            fake_M, real_n = (
                nearest_of(run, distance, feat, train_ND)[0][:, 0].double() for feat in (fake_MD, real_ND)
            )
        counts = (len(fake_M), len(real_n))
        extra: dict[str, Any] = {"distance": self.config.distance.name, "n_train": len(train_ND)}
        found = self._nearest(fake_M, real_n, counts, extractor, extra)
        return found | self._sources(inputs, run, train_ND, distance, extractor, extra)

    def _nearest(
        self, fake_M: Tensor, real_n: Tensor, counts: tuple[int, int], extractor: str, extra: dict[str, Any]
    ) -> dict[str, Score]:
        if not float(real_n.median()) > 0:
            raise DataError("memorisation: held-out samples are copies of training ones; split the data anew")
        value, spread = ratio_of_medians(fake_M, real_n)
        limit = float(real_n.quantile(self.config.quantile))
        near = int((fake_M < limit).sum())
        extra = {**extra, "quantile": self.config.quantile, "limit": limit}
        extra |= {"of_samples": quantiles(fake_M), "of_held_out": quantiles(real_n)}
        share = wilson(near, len(fake_M), LEVEL)
        return {
            "nearest-ratio": score("nearest-ratio", value, spread, counts, extractor, extra),
            "copies": score("copies", near / len(fake_M), share, counts, extractor, extra),
        }

    def _sources(
        self,
        inputs: EvalInputs,
        run: Run,
        train_ND: Tensor,
        distance: Distance,
        extractor: str,
        extra: dict[str, Any],
    ) -> dict[str, Score]:
        """Compare samples of the generator itself with the images whose features they got."""
        sources = getattr(getattr(inputs.generator, "conditioning", None), "sources", None)
        seeds_N = run.seeds("sample", min(self.config.sources, len(inputs.samples)), inputs.block)
        behind = sources(seeds_N) if sources is not None and len(seeds_N) else None
        if behind is None:
            return {}
        split, rows_N = behind
        fake_ND = run.features(own_samples(inputs.generator, run, seeds_N), extractor)
        source_ND = run.features(run.dataset(split), extractor)[rows_N]
        random_N = NoiseSource(seeds_N).integers(len(train_ND), (len(seeds_N),), "random-image")
        own_N, other_N = (rowwise(distance, fake_ND, feat) for feat in (source_ND, train_ND[random_N]))
        value, spread = ratio_of_medians(own_N, other_N)
        # Nearest is the source itself, or what is as near: equal images have equal features.
        nearest_N = nearest_of(run, distance, fake_ND, train_ND)[0][:, 0].double()
        hits = int((own_N <= nearest_N * (1 + 1e-6)).sum())
        counts, about = (len(seeds_N), len(train_ND)), {**extra, "source": split}
        share = wilson(hits, len(seeds_N), LEVEL)
        return {
            "nearest-ratio-source": score("nearest-ratio", value, spread, counts, extractor, about),
            "copies-source": score("copies", hits / len(seeds_N), share, counts, extractor, about),
        }


def own_samples(generator: Any, run: Run, seeds_N: Tensor) -> SampleSet:
    """Return samples of a generator, at the grey levels of the run's data as the report's are."""
    with torch.inference_mode():
        parts = [
            generator.sample(seeds, generator.conditions(seeds, run.settings.classes)).cpu()
            for seeds in seeds_N.split(run.settings.batch_size)
        ]
    samples: SampleSet = ArraySet(torch.cat(parts), name="samples of known source")
    levels = getattr(run.data, "levels", 256)
    return Quantised(samples, levels) if run.settings.quantise and levels < 256 else samples


def rowwise(distance: Distance, a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Return the distance of each row to the one beside it, float64 N."""
    pairs = zip(a_ND.split(1), b_ND.split(1), strict=True)
    return torch.cat([distance.pairwise(a, b).flatten() for a, b in pairs]).double()


def ratio_of_medians(a_N: Tensor, b_N: Tensor) -> tuple[float, Interval]:
    """Return median a / median b with the interval that those of both medians bound."""
    value = float(a_N.quantile(0.5)) / float(b_N.quantile(0.5))
    above, below = (median_interval(values, math.sqrt(LEVEL)) for values in (a_N, b_N))
    high = above.high / below.low if below.low > 0 else math.inf
    kind = "quotient of the order statistics around both medians, at least"
    return value, Interval(min(value, above.low / below.high), max(value, high), LEVEL, kind)


def quantiles(values_N: Tensor) -> dict[str, float]:
    """Return some quantiles of distances."""
    return {f"{100 * q:g}%": float(values_N.quantile(q)) for q in (0.01, 0.1, 0.5, 0.9)}
