"""Evaluators of the generated samples alone: Inception Score and Vendi score."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.subsets import choose_rows, ranked
from genplug_metrics.config import InceptionScoreConfig, VendiConfig
from genplug_metrics.inception_score import inception_scores, parts
from genplug_metrics.intervals import Interval, deal, generator, jackknife, normal
from genplug_metrics.scoring import LEVEL, check_counts, generated, score
from genplug_metrics.vendi import Spectrum, log_deviation, spectrum, vendi

_ORDERS = (0.5, 1.0, 2.0, math.inf)
_GROUPS = 20  # of the jackknife where one part leaves no spread over parts


class InceptionScoreEvaluator:
    """Inception Score of a classifier's logits, mean over parts of the shuffled samples."""

    def __init__(self, config: InceptionScoreConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `inception-score`."""
        logits_NK, extractor = generated(inputs, run, "logits")
        n, splits, convention = len(logits_NK), self.config.splits, self.config.convention
        check_counts(f"an Inception Score in {splits} parts", max(splits, 2), generated=n)
        g = generator(run.seed)
        logits_NK = ranked(logits_NK)[torch.randperm(n, generator=g)]
        values_S = inception_scores(logits_NK, parts(n, splits, convention))
        value = float(values_S.mean())
        extra: dict[str, Any] = {"splits": len(values_S), "convention": convention, "shuffled": True}
        extra |= {"classes": logits_NK.shape[1], "std_over_splits": float(values_S.std(correction=0))}
        spread = self._spread(logits_NK, values_S, value, g)
        return {"inception-score": score("inception-score", value, spread, (n, 0), extractor, extra)}

    def _spread(self, logits_NK: Tensor, values_S: Tensor, value: float, g: torch.Generator) -> Interval:
        """Return mean -+ t s / sqrt(S) over disjoint parts, which a jackknife of the parts gives too."""
        if len(values_S) > 1:
            without = [float(values_S[torch.arange(len(values_S)) != i].mean()) for i in range(len(values_S))]
            return jackknife(value, without, LEVEL, f"t interval of the mean of {len(values_S)} parts", 1.0)
        kept_N, values = torch.ones(len(logits_NK), dtype=torch.bool), []
        for part in deal(len(logits_NK), min(_GROUPS, len(logits_NK)), g):
            kept_N[:] = True
            kept_N[part] = False
            values.append(float(inception_scores(logits_NK[kept_N], [slice(None)])))
        return jackknife(value, values, LEVEL, f"jackknife over {len(values)} groups of rows", 1.0)


class VendiEvaluator:
    """Vendi score: how many different samples there effectively are."""

    def __init__(self, config: VendiConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `vendi`; other orders, and classes where asked for, are beside it."""
        feat_ND, extractor = generated(inputs, run)
        config = self.config
        check_counts("a Vendi score", 1, generated=len(feat_ND))
        found = self._spectrum(feat_ND, extractor, run.seed)
        value, deviation = vendi(found, config.order), log_deviation(found, config.order)
        kind = "delta method on ln: change with other samples of this size; the score grows with their number"
        low, high = (max(1.0, value * math.exp(side * normal(LEVEL) * deviation)) for side in (-1, 1))
        orders = {f"{q:g}": vendi(found, q) for q in _ORDERS}
        extra: dict[str, Any] = {"kernel": config.kernel, "order": config.order, "orders": orders}
        extra |= {"method": found.method, "explained": found.explained, "dimensions": feat_ND.shape[1]}
        extra |= {"sigma": config.sigma} if config.kernel == "rbf" else {}
        extra |= (
            {"per_class": self._per_class(inputs, feat_ND, extractor, run.seed)} if config.per_class else {}
        )
        spread = Interval(low, high, LEVEL, kind)
        return {"vendi": score("vendi", value, spread, (len(feat_ND), 0), extractor, extra)}

    def _spectrum(self, feat_ND: Tensor, extractor: str, seed: int, vectors: bool = True) -> Spectrum:
        c = self.config
        wide = len(feat_ND) if c.kernel == "rbf" else min(feat_ND.shape)
        landmarks_RD = choose_rows(feat_ND, c.landmarks, seed) if wide > c.exact_up_to else None
        try:
            return spectrum(
                feat_ND,
                c.kernel,
                sigma=c.sigma,
                vectors=vectors,
                limit=c.exact_up_to,
                landmarks_RD=landmarks_RD,
            )
        except ValueError as error:
            raise DataError(f"vendi on {extractor}: {error}; kernel rbf takes such features") from None

    def _per_class(self, inputs: EvalInputs, feat_ND: Tensor, extractor: str, seed: int) -> dict[str, float]:
        labels_N = inputs.samples.labels
        if labels_N is None:
            raise DataError(f"vendi.per_class needs labels, and {inputs.samples.name} has none")
        order, rows = self.config.order, {int(c): labels_N == c for c in labels_N.unique()}
        spectra = {c: self._spectrum(feat_ND[mine], extractor, seed, False) for c, mine in rows.items()}
        return {str(c): vendi(one, order) for c, one in spectra.items()}
