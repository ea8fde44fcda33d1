"""Realism guidance and its judges: where it acts, and that judges which guided nothing see the truth."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.errors import ConfigError, DataError
from genplug.protocols import EvalInputs
from genplug.resolving import resolve
from genplug.samplesets import ArraySet
from genplug.testing.workplace import make_run, resolve_part
from genplug_guidance.gradient_config import RealismJudgesConfig
from genplug_guidance.gradient_objective import push_of
from genplug_guidance.realism_judges import RealismJudges

SMALL: dict[str, Any] = {
    "run.samples": 80,
    "run.blocks": 1,
    "objective.train.batch_size": 64,
    "objective.train.steps": 150,
    "objective.train.lr": 0.01,
    "objective.bins": 6,
    "evaluator.realism-judges.train.steps": 40,
    "evaluator.realism-judges.train.batch_size": 64,
}


DATA = {
    "fake-points": {"dataset.name": "fake-rings"},
    "fake-latent": {"dataset.name": "fake-tiles"},
    # a generator that is exact, but for other data: its classes lie farther apart
    "toy-exact": {
        "dataset.name": "gaussians-1d",
        "dataset.separation": 0.6,
        "dataset.spread": 0.2,
        "dataset.train": 300,
        "dataset.held_out": 300,
        "generator.data": {"name": "gaussians-1d", "separation": 0.9, "spread": 0.2},
    },
}


def improved(out: Path, generator: str = "fake-points", **options: Any) -> Any:
    sets = SMALL | DATA[generator] | {key.replace("__", "."): value for key, value in options.items()}
    resolved = resolve(
        generator=generator,
        objectives=["realism-guidance"],
        dataset=sets.pop("dataset.name"),
        extractors=["fake-mean"],
        evaluators=["realism-judges"],
        sets=list(sets.items()),
    )
    return genplug.run(resolved=resolved, out=out)


def test_it_acts_where_the_classifier_beats_chance_and_fools_no_one_else(tmp_path: Path) -> None:
    metrics = improved(tmp_path / "x", "toy-exact", run__control=True).metrics
    push = push_of(genplug.load(f"{tmp_path / 'x'}:improved"))
    bands = push.facts["measured"]["bands"]
    active = [band["accuracy"] >= 0.52 for band in bands]
    assert list(push.strength.active) == active  # type: ignore[attr-defined]
    assert any(active)
    middles = torch.tensor([(band["low"] * band["high"]) ** 0.5 for band in bands])
    assert (push.strength.excess(middles) != 0).tolist() == active
    events = [json.loads(line) for line in (tmp_path / "x/events.jsonl").read_text().splitlines()]
    assert next(event["active"] for event in events if event["event"] == "guided") == active
    rates = {
        model: scores["fake-rate-independent"]
        for model, scores in metrics.items()
        if model != "run" and model != "floor"
    }
    assert rates["improved"]["value"] < rates["base"]["value"]
    assert rates["improved"]["value"] < rates["control"]["value"]
    one = rates["improved"]
    assert one["low"] <= one["value"] <= one["high"]
    assert "n = 80" in one["interval"]
    assert "fake-rate-guide" in metrics["base"]


def test_images_and_other_targets_work_too(tmp_path: Path) -> None:
    metrics = improved(tmp_path / "x", "fake-latent", objective__target="logit").metrics
    assert metrics["improved"]["fake-rate-guide"]["value"] < metrics["base"]["fake-rate-guide"]["value"]


def test_a_classifier_for_each_class_takes_the_labels_logit(tmp_path: Path) -> None:
    improved(tmp_path / "x", objective__per_class=True, objective__force=True)
    push = push_of(genplug.load(f"{tmp_path / 'x'}:improved"))
    assert push.facts["blueprint"]["logits"] == 2
    from genplug.condition import Condition

    x, sigma_N = torch.zeros(2, 2), torch.full((2,), 0.1)
    both = push.potential(x, sigma_N, Condition(labels_N=torch.tensor([0, 1])))
    assert float((both[0] - both[1]).abs()) > 1e-4


def test_nowhere_better_than_the_margin_is_refused_unless_forced(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"beats chance by 49\.9% at no noise level; lower objective\.margin"
    ):
        improved(tmp_path / "x", objective__margin=0.499, objective__train__steps=20)
    improved(tmp_path / "y", objective__margin=0.499, objective__train__steps=20, objective__force=True)
    push = push_of(genplug.load(f"{tmp_path / 'y'}:improved"))
    assert all(push.strength.active)  # type: ignore[attr-defined]


def points(count: int, mean: float, seed: int) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)) * 0.3 + mean


class Far:
    """A generator whose points lie beside the data."""

    provides, modality, size = frozenset[str](), "points", None

    def sample(self, seeds_N: torch.Tensor, cond: Any = None) -> torch.Tensor:
        return points(len(seeds_N), 0.6, int(seeds_N[0]) % 1000)

    def conditions(self, seeds_N: torch.Tensor, policy: str = "balanced") -> None:
        return None

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}


def judged(where: Path, samples: torch.Tensor, **options: Any) -> Any:
    config = RealismJudgesConfig(train={"steps": 60, "batch_size": 64, "lr": 0.02}, **options)  # type: ignore[arg-type]
    run = dataclasses.replace(
        make_run(where), extractors={"fake-mean": resolve_part("extractor", "fake-mean", {})}
    )
    sets = {
        name: ArraySet(points(400, 0.0, seed), name=name)
        for seed, name in enumerate(("train", "held_out"), 1)
    }
    inputs = EvalInputs(
        ArraySet(samples),
        **sets,
        generator=Far(),
        base=Far(),
        extractors=("fake-mean",),  # type: ignore[arg-type]
    )
    return RealismJudges(config).evaluate(inputs, run)


@pytest.mark.parametrize("features", [False, True])
def test_judges_know_data_from_samples_of_the_base(features: bool, tmp_path: Path) -> None:
    """Two Gaussians, one 2 standard deviations from the other: the best accuracy is Phi(sqrt(2))= 0.92."""
    of_base = judged(tmp_path / "a", points(400, 0.6, 77), features=features)
    of_data = judged(tmp_path / "b", points(400, 0.0, 78), features=features)
    assert of_base["fake-rate-independent"].value > 0.8
    assert of_data["fake-rate-independent"].value < 0.2
    assert of_base["fresh-accuracy"].value > 0.8
    assert of_data["fresh-accuracy"].low < 0.5 < of_data["fresh-accuracy"].high + 0.06
    extra = of_base["fake-rate-independent"].extra
    assert extra["called_fake"]["of_real"] < 0.2 < 0.8 < extra["called_fake"]["of_base"]
    assert "fake-rate-guide" not in of_base
    assert of_base["fresh-accuracy"].extractor == ("fake-mean" if features else "")


def test_too_few_samples_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="realism-judges needs at least 4 samples of each set, not 2"):
        judged(tmp_path / "a", points(2, 0.0, 0))
