"""The class-removal experiment (figure 5 of arXiv 2411.16171) on any labelled data set.

Real images stand in for generated ones, so that their diversity is known: of equally many images per class
for training, reference and test, whole classes are removed from the test images, and scores of what is left
are compared with the share of classes kept. A measure of diversity should be proportional to it.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genplug.config import Component
from genplug.errors import DataError
from genplug.opening import open_samples
from genplug.protocols import EvalInputs
from genplug.runtime import Run
from genplug.samplesets import Joined, SampleSet
from genplug.subsets import choose_rows
from genplug_irs.plots import Curve, curve_plot
from genplug_irs.retrieval import corpus_of, retrieve
from genplug_irs.statistics import adjusted_score, estimate_reach
from genplug_metrics.frechet import frechet_from_features

NEIGHBOURS = 5  # of recall and coverage
BALLS = Component(name="prdc", k=NEIGHBOURS, equal_counts=False)
MEASURES = {
    "irs-adjusted": "adjusted IRS",
    "irs": "IRS, not adjusted",
    "coverage": f"coverage, k = {NEIGHBOURS}",
    "recall": f"recall, k = {NEIGHBOURS}",
    "closeness": "1 - FD / largest FD",
}


@dataclass(frozen=True)
class Split:
    """Row numbers of one random split, equally many of each class."""

    train: Tensor
    reference: Tensor
    test: Tensor


@dataclass
class FeatureRows:
    """A sample set of which the features are known, whatever extractor is asked for."""

    feat_ND: Tensor
    name: str = "features"
    labels: Tensor | None = None

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.feat_ND.numpy().tobytes()).hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.feat_ND.shape[1:])

    def __len__(self) -> int:
        return len(self.feat_ND)

    def read(self, rows: Sequence[int]) -> Tensor:
        return self.feat_ND[list(rows)]

    def own_features(self, want: object) -> Tensor:
        return self.feat_ND


def labelled(run: Run, dataset: str) -> SampleSet:
    """Open all splits of a data set as one, or anything else with labels."""
    if dataset in run.catalog.entries["dataset"]:
        splits = run.catalog.get("dataset", dataset).spec.splits  # type: ignore[attr-defined]
        samples: SampleSet = Joined([open_samples(run, f"{dataset}:{name}") for name in splits], dataset)
    else:
        samples = open_samples(run, dataset)
    if samples.labels is None or len(samples.labels.unique()) < 2:
        raise DataError(f"{dataset} has no labels of two classes; use a folder with one subfolder per class")
    return samples


def split_classes(labels_N: Tensor, train_parts: int, seed: int) -> Split:
    """Draw as many images of each class as the smallest has: `train_parts` for training, 1 and 1."""
    classes, sizes = labels_N.unique(return_counts=True)
    part = int(sizes.min()) // (train_parts + 2)
    if part < 2:
        raise DataError(f"the smallest class has {int(sizes.min())} images; {2 * train_parts + 4} are needed")
    g, rows = torch.Generator().manual_seed(seed), []
    for label in classes.tolist():
        own = (labels_N == label).nonzero()[:, 0]
        drawn = own[torch.randperm(len(own), generator=g)[: part * (train_parts + 2)]]
        rows.append(drawn.split([part * train_parts, part, part]))
    return Split(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


def measure(
    run: Run, feat_ND: Tensor, labels_N: Tensor, split: Split, seed: int, alpha_e: float
) -> list[dict[str, Any]]:
    """Return the scores of one split for every number of kept classes, removed in a random order."""
    g = torch.Generator().manual_seed(seed)
    classes = labels_N.unique()
    classes = classes[torch.randperm(len(classes), generator=g)]
    corpus, reference_ND = corpus_of(feat_ND[split.train]), feat_ND[split.reference]
    rows = []
    for kept in range(1, len(classes) + 1):
        test_ND = feat_ND[split.test[torch.isin(labels_N[split.test], classes[:kept])]]
        fake, real = (
            retrieve(run, queries_ND, corpus, Component(name="euclidean"))
            for queries_ND in (test_ND, choose_rows(reference_ND, len(test_ND), seed))
        )
        reach = estimate_reach(fake.k, len(test_ND), len(corpus), alpha_e)
        ratio = adjusted_score(fake.k, real.k, len(test_ND), len(corpus), level=1 - 2 * alpha_e, seed=seed)
        sets = EvalInputs(FeatureRows(test_ND), FeatureRows(reference_ND), extractor="any")
        balls = run.component("evaluator", BALLS).evaluate(sets, run)
        rows.append(
            {
                "seed": seed,
                "kept": kept / len(classes),
                "n": len(test_ND),
                "N": len(corpus),
                "n_learned": fake.k,
                "reference_n_learned": real.k,
                "irs-adjusted": ratio.value,
                "low": ratio.low,
                "high": ratio.high,
                "irs": reach.irs_inf[0],
                "coverage": balls["coverage"].value,
                "recall": balls["recall"].value,
                "fd": frechet_from_features(reference_ND, test_ND).value,
            }
        )
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average over seeds by kept share; say how linear each measure is and where it stands half way.

    `correlation` is Pearson's with the kept share over all rows, `farthest` the largest distance of a mean
    from the kept share, and `half_way` how much of the rise from the fewest classes to all is done at half of
    them: 0.5 for a measure that is linear, near 1 for one that saturates.
    """
    top = max(row["fd"] for row in rows)
    rows = [{**row, "closeness": 1 - row["fd"] / top} for row in rows]
    shares = sorted({row["kept"] for row in rows})

    def mean(name: str, share: float) -> float:
        return statistics.fmean(row[name] for row in rows if row["kept"] == share)

    curves = {name: [mean(name, share) for share in shares] for name in (*MEASURES, "fd", "low", "high")}
    told = {}
    for name in MEASURES:
        values = curves[name]
        middle = _between(shares, values, (shares[0] + shares[-1]) / 2)
        told[name] = {
            "correlation": statistics.correlation([row["kept"] for row in rows], [row[name] for row in rows]),
            "farthest": max(abs(value - share) for value, share in zip(values, shares, strict=True)),
            "half_way": (middle - values[0]) / (values[-1] - values[0]),
            "at_all": values[-1],
        }
    covered = sum(row["low"] <= row["kept"] <= row["high"] for row in rows) / len(rows)
    return {"kept": shares, "means": curves, "measures": told, "interval_holds_kept": covered}


def _between(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """Interpolate."""
    right = next(i for i in range(1, len(x)) if x[i] >= at)
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    return y[right - 1] + share * (y[right] - y[right - 1])


def class_removal(
    run: Run, dataset: str, extractors: Sequence[str], seeds: int, train_parts: int, alpha_e: float
) -> dict[str, Any]:
    """Run the experiment for every extractor; split and order of classes follow from its number."""
    samples = labelled(run, dataset)
    assert samples.labels is not None
    found = {}
    for extractor in extractors:
        feat_ND, rows = run.features(samples, extractor), []
        with run.log.progress(f"class removal, {extractor}", seeds, "split") as advance:
            for seed in range(seeds):
                split = split_classes(samples.labels, train_parts, seed)
                rows += measure(run, feat_ND, samples.labels, split, seed, alpha_e)
                advance()
        found[extractor] = {**summarise(rows), "rows": rows}
    return {
        "dataset": samples.name,
        "images": len(samples),
        "parts": [train_parts, 1, 1],
        "seeds": seeds,
        "alpha_e": alpha_e,
        "extractors": found,
    }


def plot(extractor: str, found: dict[str, Any]) -> str:
    """Draw every measure against the share of classes kept."""
    shares, means = found["kept"], found["means"]
    curves = [
        Curve(
            MEASURES["irs-adjusted"],
            shares,
            means["irs-adjusted"],
            dots=True,
            low=means["low"],
            high=means["high"],
        ),
        *(
            Curve(name, shares, means[key], dots=True)
            for key, name in MEASURES.items()
            if key != "irs-adjusted"
        ),
        Curve("the share of classes kept", shares, shares, dashed=True),
    ]
    return curve_plot(
        f"classes removed, {extractor}", "means over splits", "share of classes kept", curves, 1.6
    )
