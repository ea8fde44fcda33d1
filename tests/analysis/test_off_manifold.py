"""Shares off the manifold: 1 % of real points, whatever the data; all of what lies elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from genplug.protocols import EvalInputs
from genplug.runtime import Run
from genplug.samplesets import ArraySet, SampleSet
from genplug_analysis.config import OffManifoldConfig, OffManifoldFeaturesConfig
from genplug_analysis.off_manifold import OffManifold

FRACTAL = {"name": "fractal", "classes": "both", "train": 6000, "held_out": 4000}
EXACT = {"name": "toy-exact", "data": {"name": "fractal", "classes": "both"}}


def evaluated(run: Run, samples: SampleSet, features: bool = False) -> dict[str, Any]:
    config = OffManifoldFeaturesConfig() if features else OffManifoldConfig()
    inputs = EvalInputs(
        samples,
        held_out=run.dataset("held-out"),
        train=run.dataset("train"),
        extractor="pixels" if features else None,
    )
    return OffManifold(config, features).evaluate(inputs, run)


def test_one_real_point_in_a_hundred_is_off(run_of: Callable[..., Run]) -> None:
    run = run_of(FRACTAL, EXACT)
    fresh = run_of({**FRACTAL, "held_out": 10_000}, EXACT).dataset("held-out")
    rows = list(range(4000, 10_000))  # none of them among the judging ones
    samples = ArraySet(fresh.read(rows), fresh.labels[rows], "real again")  # type: ignore[index]
    scores = evaluated(run, samples)
    for name in ("off-density", "off-neighbour"):
        assert scores[name].value == pytest.approx(0.01, abs=0.005)
        classes = [scores[f"{name}-class-{label}"] for label in (0, 1)]
        assert scores[name].value == pytest.approx(sum(one.value for one in classes) / 2)
        assert [one.n_generated for one in classes] == [3000, 3000]


def test_what_is_off_a_class_may_be_on_another_one(run_of: Callable[..., Run]) -> None:
    run = run_of(FRACTAL, EXACT)
    held_out = run.dataset("held-out")
    swapped = ArraySet(held_out.read(range(2000)), 1 - held_out.labels[:2000], "swapped")  # type: ignore[index]
    scores = evaluated(run, swapped)
    assert scores["off-density"].value > 0.9
    assert scores["off-neighbour"].value > 0.9
    unlabelled = evaluated(run, ArraySet(swapped.samples, None, "unlabelled"))
    assert unlabelled["off-neighbour"].value < 0.02
    assert not [name for name in unlabelled if "class" in name]


def test_the_threshold_of_the_density_is_the_quantile_known_for_one_class(run_of: Callable[..., Run]) -> None:
    """The 1 % quantile of ln p_A on real samples is -1.774."""
    run = run_of({"name": "fractal", "held_out": 20_000, "train": 10}, {"name": "toy-exact"})
    values_N = run.data.log_density(run.dataset("held-out").read(range(20_000)).double(), 0.0, None)  # type: ignore[attr-defined]
    assert float(values_N.quantile(0.01)) == pytest.approx(-1.774, abs=0.12)


def test_features_have_neighbours_but_no_density(run_of: Callable[..., Run]) -> None:
    run = run_of(FRACTAL, EXACT)
    held_out = run.dataset("held-out")
    far = ArraySet(held_out.read(range(500)) + 3, held_out.labels[:500], "far")  # type: ignore[index]
    scores = evaluated(run, far, features=True)
    assert scores["off-neighbour"].value == 1
    assert "off-density" not in scores
    assert scores["nn-distance"].value == pytest.approx(float(torch.tensor([3.0, 3.0]).norm()), rel=0.5)
    assert scores["nn-distance"].extractor == "pixels"
