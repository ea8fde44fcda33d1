"""Online rejection: the same answer as after all samples, as early as it can be known."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.errors import ConfigError, DataError
from genplug.random import NoiseSource
from genplug.resolving import resolve
from genplug_irs.rejection import Gate, Rejection
from genplug_irs.thresholds import threshold_facts, threshold_lines


def test_fed_in_any_batches_it_answers_as_the_whole_does_and_as_soon_as_it_can() -> None:
    draw = random.Random(1)
    for trial in range(40):
        test, s = Rejection(0.5, 60, 100), draw.choice([10, 40, 50, 90])
        index = [draw.randrange(s) for _ in range(60)]
        whole = "rejected" if len(set(index)) < test.k_min else "accepted"
        known = next(
            m
            for m in range(1, 61)
            if len(set(index[:m])) >= test.k_min or m - len(set(index[:m])) > 60 - test.k_min
        )
        start = 0
        while test.verdict == "undecided":
            size = draw.randint(1, 25)
            test.add(torch.tensor(index[start : start + size]))
            start += size
        assert (test.verdict, test.drawn) == (whole, known), trial
        assert test.add([0, 1, 2]) == whole
        assert test.drawn == known


def test_a_generator_of_the_target_is_rejected_as_rarely_as_asked() -> None:
    g = torch.Generator().manual_seed(0)
    verdicts = []
    for _ in range(400):
        test = Rejection(0.5, 200, 1000, alpha_e=0.1)
        verdicts.append(test.add(torch.randint(500, (200,), generator=g)))
    assert 0.03 < verdicts.count("rejected") / 400 < 0.1 + 4 * (0.09 / 400) ** 0.5
    assert "undecided" not in verdicts


def test_the_threshold_of_imagenet_is_known_after_its_duplicates() -> None:
    test = Rejection(0.8, 50_000, 1_281_166)
    assert (test.k_min, test.allowed) == (48_745, 1255)
    assert test.add([7] * 1256) == "undecided"
    assert test.add([7]) == "rejected"


@pytest.mark.parametrize("bad", [{"target": 0.0}, {"target": 1.5}, {"n": 0}, {"N": 0}, {"alpha_e": 1.0}])
def test_impossible_tests_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be shares"):
        Rejection(**{"target": 0.5, "n": 10, "N": 20, **bad})


def test_an_index_outside_the_training_set_is_refused() -> None:
    with pytest.raises(DataError, match="outside the 20 training images"):
        Rejection(0.5, 10, 20).add([20])


def test_threshold_facts_are_read_as_printed() -> None:
    facts = threshold_facts(800, 60, 1.0, 0.05)
    assert (facts["k_min"], facts["duplicates_allowed"]) == (55, 5)
    assert facts["curve"][-1]["ideal"] == pytest.approx(800 * (1 - (1 - 1 / 800) ** 60))
    assert {row["diversity"]: round(row["rejected"], 2) for row in facts["power"]}[0.25] == 0.87
    assert "k_min = 55" in "\n".join(threshold_lines(facts))


class Few:
    """A generator that knows only some of the training points, with a little noise."""

    provides = frozenset[str]()
    size = None

    def __init__(self, points: torch.Tensor) -> None:
        self.points, self.asked = points, 0

    def conditions(self, seeds_N: torch.Tensor, policy: str = "random") -> None:
        return None

    def sample(self, seeds_N: torch.Tensor, cond: None) -> torch.Tensor:
        self.asked += len(seeds_N)
        noise = NoiseSource(seeds_N)
        at = noise.integers(len(self.points), (len(seeds_N), 1), "which")[:, 0]
        return self.points[at] + 1e-4 * noise.normal((len(seeds_N), 2), "noise")


def test_a_gate_stops_sampling_a_poor_generator_early() -> None:
    from genplug.runtime import Run, make_accelerator
    from genplug.samplesets import ArraySet
    from genplug.settings import RunSettings, RuntimeSettings

    settings = RunSettings(batch_size=32)
    run = Run(make_accelerator(settings, RuntimeSettings(device="cpu")), settings)
    points = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    gate = Gate.of(run, 0.5, 400, "pixels", train=ArraySet(points))
    poor, rich = Few(points[:20]), Few(points)
    found = gate(poor, "poor")
    assert found.verdict == "rejected"
    assert found.drawn == found.allowed + 1 + 20
    assert found.drawn <= poor.asked < found.drawn + 32 < 400
    found = gate(rich, "rich")
    assert (found.verdict, found.distinct) == ("accepted", found.k_min)


@pytest.mark.parametrize(("reject", "kept"), [(0.9, 1), (0.001, 4)])
def test_ddo_leaves_out_candidates_that_cannot_reach_what_is_asked(
    tmp_path: Path, reject: float, kept: int
) -> None:
    sets = [
        ("run.samples", 24),
        ("run.batch_size", 16),
        ("objective.select_evaluator", "fake-gap"),
        ("objective.select", "gap"),
        ("objective.select_extractor", "fake-mean"),
        ("objective.select_samples", 64),
        ("objective.train.steps", 6),
        ("objective.train.batch_size", 16),
        ("objective.reject", reject),
    ]
    names = {"dataset": "fake-rings", "extractors": ["fake-mean"], "evaluators": ["fake-gap"]}
    plan = resolve(generator="fake-points", objectives=["ddo"], sets=sets, **names)
    genplug.run(resolved=plan, out=tmp_path / "x")
    history = json.loads((tmp_path / "x/stages/1-ddo/selection.json").read_text())
    events = [json.loads(line) for line in (tmp_path / "x/events.jsonl").read_text().splitlines()]
    verdicts = [event["verdict"] for event in events if event["event"] == "rejection"]
    assert len(verdicts) == len(history) == 4
    scored = [item for item in history if item["score"] is not None]
    assert [v == "accepted" for v in verdicts] == [item["score"] is not None for item in history]
    assert len(scored) == (kept if kept > 1 else 0)
    assert [item["chosen"] for item in history].count(True) == 1


def test_the_python_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs/irs.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(block, {})
    assert capsys.readouterr().out == "rejected after 1257 samples\n"
