"""The evaluator `feature-map`: generated samples on the principal components of training features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.subsets import choose_rows
from genplug_analysis.config import FeatureMapConfig
from genplug_analysis.drawing import class_plot
from genplug_analysis.scoring import LEVEL, classes_of, held_out_of, in_class, score_of
from genplug_metrics.intervals import Interval, bootstrap


@dataclass(frozen=True)
class Components:
    """The mean D and the K principal axes DK of features, with the share of variance each has, K."""

    mean_D: Tensor
    axes_DK: Tensor
    shares_K: Tensor

    def project(self, feat_ND: Tensor) -> Tensor:
        """Return the coordinates of features, float64 NK."""
        return (feat_ND.double() - self.mean_D) @ self.axes_DK


def principal(feat_ND: Tensor, count: int = 2) -> Components:
    """Return the first principal components; each axis has its largest entry positive."""
    feat_ND = feat_ND.double()
    mean_D = feat_ND.mean(0)
    centred_ND = feat_ND - mean_D
    values_D, axes_DD = torch.linalg.eigh(centred_ND.T @ centred_ND)
    axes_DK = axes_DD.flip(1)[:, :count]
    largest_K = axes_DK.gather(0, axes_DK.abs().argmax(0, keepdim=True))
    total = values_D.clamp(min=0).sum().clamp(min=torch.finfo(torch.float64).tiny)
    return Components(mean_D, axes_DK * largest_K.sign(), values_D.clamp(min=0).flip(0)[:count] / total)


@dataclass(frozen=True)
class Groups:
    """Rows of features with the number of their group, and what the groups are: classes, or all in one."""

    feat_ND: Tensor
    group_N: Tensor


class FeatureMap:
    """How tight and how far apart the classes of generated samples are in a classifier's features."""

    def __init__(self, config: FeatureMapConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return both scores, with the map."""
        held_out, train, extractor = held_out_of(inputs, "feature-map"), inputs.train, inputs.extractor
        if train is None or extractor is None:
            raise DataError("feature-map needs training samples and an extractor")
        sets = (inputs.samples, held_out, train)
        labels = classes_of(*sets)
        fake, real, known = (_grouped(run.features(one, extractor), one, labels) for one in sets)
        if min(len(one.feat_ND) for one in (fake, real, known)) < 2:
            raise DataError("feature-map needs two samples of each set")
        found = principal(known.feat_ND)
        rows = [known.feat_ND[known.group_N == k] for k in range(len(labels))]
        centres_KD = torch.stack([feat_ND.double().mean(0) for feat_ND in rows])
        extra = {"classes": len(labels), "variance_of_the_components": found.shares_K.tolist()}
        counts = (len(inputs.samples), len(held_out))
        ratio, gap = _ratio(fake, real, centres_KD, run.seed), _gap(fake, real, found, run.seed)
        picture = self._picture(fake, real, labels, found, run.seed)
        plots = {f"principal components of training features, {extractor}": picture}
        return {
            "centroid-ratio": score_of(*ratio, counts, extra, plots, extractor),
            "separation-gap": score_of(*gap, counts, extra, extractor=extractor),
        }

    def _picture(
        self, fake: Groups, real: Groups, labels: list[int | None], found: Components, seed: int
    ) -> str:
        most = self.config.drawn
        shown = {
            label: choose_rows(found.project(fake.feat_ND[fake.group_N == k]), most, seed)
            for k, label in enumerate(labels)
        }
        behind = choose_rows(found.project(real.feat_ND), most * len(labels), seed)
        pair = [_two(rows) for rows in shown.values()]
        title = f"two components, {float(found.shares_K.sum()):.0%} of the variance"
        return class_plot(title, dict(zip(shown, pair, strict=True)), _two(behind), None)


def _grouped(feat_ND: Tensor, samples: SampleSet, labels: list[int | None]) -> Groups:
    """Return the rows of the common classes, by class."""
    rows = [in_class(samples, label) for label in labels]
    group_N = torch.cat([torch.full((len(one),), k) for k, one in enumerate(rows)])
    return Groups(feat_ND[torch.cat(rows)], group_N)


def _ratio(fake: Groups, real: Groups, centres_KD: Tensor, seed: int) -> tuple[float, Interval]:
    """Return the mean distance to the own class's centre in training, over that of held-out samples."""
    own = [(one.feat_ND.double() - centres_KD[one.group_N]).norm(dim=1) for one in (fake, real)]
    own_N, own_M = (distances.sort().values for distances in own)
    reference = float(own_M.mean())
    if reference == 0:
        raise DataError("feature-map: all held-out samples of a class have the same features")
    spread = bootstrap(lambda rows: float(own_N[rows].mean()) / reference, len(own_N), 500, LEVEL, seed)
    kind = f"{spread.kind} of generated samples, real ones as they are"
    return float(own_N.mean()) / reference, Interval(spread.low, spread.high, spread.level, kind)


def _gap(fake: Groups, real: Groups, found: Components, seed: int) -> tuple[float, Interval]:
    """Return the share of the map's variance that lies between classes, less that of held-out samples."""
    ours = Groups(found.project(fake.feat_ND), fake.group_N)
    reference = between(found.project(real.feat_ND), real.group_N)
    order = torch.argsort(ours.feat_ND[:, 0], stable=True)  # not where rows stand
    x_NK, group_N = ours.feat_ND[order], ours.group_N[order]
    spread = bootstrap(lambda rows: between(x_NK[rows], group_N[rows]), len(x_NK), 200, LEVEL, seed)
    kind = f"{spread.kind} of generated samples, real ones as they are"
    interval = Interval(spread.low - reference, spread.high - reference, spread.level, kind)
    return between(x_NK, group_N) - reference, interval


def between(x_NK: Tensor, group_N: Tensor) -> float:
    """Return the share of the total variance that is between groups, in [0, 1]; 0 without variance."""
    total = (x_NK - x_NK.mean(0)).square().sum()
    if not total:
        return 0.0
    inside = sum((x - x.mean(0)).square().sum() for k in group_N.unique() if len(x := x_NK[group_N == k]))
    return float(1 - inside / total)


def _two(x_NK: Tensor) -> Tensor:
    """Return two coordinates, of one-dimensional features zeros as the second."""
    return x_NK if x_NK.shape[1] > 1 else torch.cat([x_NK, torch.zeros_like(x_NK)], 1)
