"""Samples off the manifold: where nearly no real sample lies, by density and by the nearest real sample.

By density a point of class c is off where ln p_c(x) is below the 1 % quantile of ln p_c on held-out real
points; by neighbours where the nearest training sample of the class is farther than that of 99 % of the
held-out ones (sections 3.4 and 3.7 of the methods after arXiv 2503.10638). Real samples are off in 1 % of the
cases by either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug_analysis.boundary import LogDensity, known_density
from genplug_analysis.config import OffManifoldConfig
from genplug_analysis.scoring import LEVEL, classes_of, held_out_of, in_class, rows_of, score_of, suffix
from genplug_distances.neighbours import nearest_of
from genplug_metrics.intervals import bootstrap_mean, wilson


@dataclass(frozen=True)
class Judged:
    """Of one class: how far its samples are from real ones, what is too far, and which are off by density."""

    label: int | None
    distance_N: Tensor
    farthest: float
    improbable_N: Tensor | None
    n_real: int


class OffManifold:
    """Shares off the manifold and distances to it, of all samples and of each class by itself."""

    def __init__(self, config: OffManifoldConfig, of_features: bool) -> None:
        self.config, self.of_features = config, of_features
        self.name = "off-manifold-features" if of_features else "off-manifold"

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `off-neighbour`, `nn-distance`, and `off-density` where the data's density is known."""
        held_out, train = held_out_of(inputs, self.name), inputs.train
        if train is None:
            raise DataError(f"{self.name} needs the samples that the generator was trained on")
        density = None if self.of_features else known_density(run)
        judged = list(self._judged(inputs, held_out, train, density, run))
        scores = self._scores(judged, "", inputs.extractor, run.seed)
        for one in judged if 1 < len(judged) <= self.config.per_class else ():
            scores |= self._scores([one], suffix(one.label), inputs.extractor, run.seed)
        return scores

    def _judged(
        self,
        inputs: EvalInputs,
        held_out: SampleSet,
        train: SampleSet,
        density: LogDensity | None,
        run: Run,
    ) -> Iterator[Judged]:
        sets = (inputs.samples, held_out, train)
        fake_ND, real_MD, bank_LD = (self._rows(some, inputs.extractor, run) for some in sets)
        distance = run.component("distance", self.config.distance)
        for label in classes_of(*sets):
            everyone = zip((fake_ND, real_MD, bank_LD), sets, strict=True)
            fake_nD, real_mD, bank_lD = (rows[in_class(some, label)] for rows, some in everyone)
            if not len(fake_nD):
                continue
            d_n, d_m = (nearest_of(run, distance, rows, bank_lD)[0][:, 0] for rows in (fake_nD, real_mD))
            off_n = None if density is None else self._improbable(density, label, fake_nD, real_mD)
            farthest = float(d_m.quantile(1 - self.config.outside))
            yield Judged(label, d_n, farthest, off_n, len(real_mD))

    def _rows(self, samples: SampleSet, extractor: str | None, run: Run) -> Tensor:
        return run.features(samples, extractor or "") if self.of_features else rows_of(samples)

    def _improbable(self, density: LogDensity, label: int | None, fake_ND: Tensor, real_MD: Tensor) -> Tensor:
        fake_N, real_M = (density(rows.double(), 0.0, label) for rows in (fake_ND, real_MD))
        return fake_N < real_M.quantile(self.config.outside)

    def _scores(self, judged: list[Judged], more: str, extractor: str | None, seed: int) -> dict[str, Score]:
        """Return the scores of some classes together."""
        distance_N = torch.cat([one.distance_N for one in judged])
        counts = len(distance_N), sum(one.n_real for one in judged)
        limits = {str(one.label) if one.label is not None else "all": one.farthest for one in judged}
        extra = {"outside": self.config.outside, "farthest_real": limits}
        far_N = torch.cat([one.distance_N > one.farthest for one in judged])
        improbable = [one.improbable_N for one in judged if one.improbable_N is not None]
        shares = {"off-neighbour": far_N, **({"off-density": torch.cat(improbable)} if improbable else {})}
        where = extractor or ""
        scores = {}
        for name, off_N in shares.items():
            value, share = float(off_N.double().mean()), wilson(int(off_N.sum()), len(off_N), LEVEL)
            scores[name + more] = score_of(value, share, counts, extra, extractor=where)
        mean = bootstrap_mean(distance_N, level=LEVEL, seed=seed)
        value = float(distance_N.mean())
        scores[f"nn-distance{more}"] = score_of(value, mean, counts, extra, extractor=where)
        return scores
