"""Chains: what is judged, what is checked before any work, and what can be loaded by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.chains import models, steps
from genplug.errors import CapabilityError
from genplug.resolving import resolve

POINTS: dict[str, Any] = {
    "generator": "fake-points",
    "dataset": "fake-rings",
    "extractors": ["fake-mean"],
    "evaluators": ["fake-gap"],
}
SMALL = [("run.samples", 12), ("run.blocks", 2), ("run.batch_size", 6)]
TRAIN = [("objective.1.train.steps", 3), ("objective.1.train.batch_size", 8)]


def run(out: Path, *objectives: str, sets: Any = ()) -> Any:
    return genplug.run(resolved=resolve(**POINTS, objectives=objectives, sets=[*SMALL, *sets]), out=out)


def refusal(*objectives: str, sets: Any = ()) -> str:
    with pytest.raises(CapabilityError) as caught:
        resolve(**POINTS, objectives=objectives, sets=sets)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_step_of_a_chain_is_judged_and_loaded_by_name(tmp_path: Path) -> None:
    sets = [*TRAIN, ("run.evaluate_each", True), ("run.control", True), ("objective.2.factor", 0.5)]
    found = run(tmp_path / "x", "pretrain", "fake-shrink", sets=sets).metrics
    assert list(found) == ["base", "1-pretrain", "improved", "control", "floor", "run"]
    drawn = {
        name: genplug.load(f"{tmp_path / 'x'}:{name}").sample(torch.arange(3), labels(3))
        for name in ("base", "1-pretrain", "2-fake-shrink", "improved", "control", "2-fake-shrink-control")
    }
    assert torch.equal(drawn["improved"], drawn["2-fake-shrink"])
    assert torch.equal(drawn["control"], drawn["2-fake-shrink-control"])
    assert torch.equal(drawn["control"], drawn["1-pretrain"]), "its factor is one: what the step got"
    assert not torch.equal(drawn["control"], drawn["improved"])
    page = (tmp_path / "x" / "report.html").read_text()
    assert "control" in page


def labels(count: int) -> Any:
    return genplug.Condition(labels_N=torch.arange(count) % 2)


def test_a_finished_control_is_not_made_again(tmp_path: Path) -> None:
    sets = [("run.control", True)]
    first = run(tmp_path / "x", "fake-shrink", sets=sets).metrics
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "x" / "generator").rglob("*.json")}
    assert run(tmp_path / "x", "fake-shrink", sets=sets).metrics == first
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(made) == 4


def test_a_chain_that_loses_what_the_next_objective_needs_names_the_taker() -> None:
    said = refusal("pretrain", "fake-shrink", "fake-recondition", "ddo")
    assert said.startswith("objective 'ddo' needs denoiser|likelihood, trainable; ")
    assert "the result of 'fake-recondition' provides denoiser, feature-conditional: " in said
    assert said.endswith("'fake-shrink' takes trainable away, so that 'ddo' must come before it")


def test_what_the_generator_never_had_is_answered_with_generators_that_fit() -> None:
    with pytest.raises(
        CapabilityError, match=r"generator 'fake-text' provides text-conditional\. Generators that fit"
    ):
        resolve(**{**POINTS, "generator": "fake-text"}, objectives=["fake-shrink"])


def test_a_control_is_refused_where_the_last_objective_makes_none() -> None:
    said = refusal("fake-shrink", "fake-shift", sets=[("run.control", True)])
    assert said.startswith("objective 'fake-shift' makes no control; those that do: ")
    assert "fake-shrink" in said
    assert "name one" in refusal(sets=[("run.control", True)])


def test_steps_need_only_those_before_them() -> None:
    asked = resolve(**POINTS, objectives=["fake-shrink", "fake-shift"], sets=[("run.evaluate_each", True)])
    made = steps(asked)
    assert [(step.name, step.after) for step in made.values()] == [
        ("1-fake-shrink", None),
        ("2-fake-shift", "1-fake-shrink"),
    ]
    assert models(asked) == {"base": None, "1-fake-shrink": "1-fake-shrink", "improved": "2-fake-shift"}
