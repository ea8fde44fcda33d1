"""Evaluation: who judges, with which options, and how blocks are joined."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug import ExtractorSpec
from genplug.blocks import over_blocks
from genplug.config import Config
from genplug.errors import CapabilityError, ConfigError, DataError, GenplugError
from genplug.matching import check_modality
from genplug.parts import Part
from genplug.protocols import Score
from genplug.registry import Entry, Package

REAL, FAKE = torch.zeros(8, 2), torch.ones(8, 2)
FAKES: dict[str, Any] = {"evaluators": ["fake-gap"], "extractors": ["fake-mean"]}


def score(value: float, seeds: str = "", **more: Any) -> Score:
    return Score(value, value - 1, value + 1, "own", 4, 5, seeds, **more)


def test_blocks_give_mean_and_two_standard_deviations() -> None:
    values = [1.0, 2.0, 4.0]
    joined = over_blocks(
        [{"a": score(v, seeds=f"{i}-{i}", extra={"k": 2}, plots={"p": "svg"})} for i, v in enumerate(values)]
    )["a"]
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    assert (joined["value"], joined["spread"]) == (mean, spread)
    assert (joined["low"], joined["high"]) == (mean - 2 * spread, mean + 2 * spread)
    assert joined["blocks"] == values
    assert joined["interval"] == "mean -+ 2 standard deviations of 3 seed blocks"
    assert (joined["seeds"], joined["extra"]) == ("0-0, 1-1, 2-2", {"k": 2})
    assert "plots" not in joined


def test_one_block_keeps_its_own_interval() -> None:
    joined = over_blocks([{"a": score(3.0)}])["a"]
    assert (joined["value"], joined["low"], joined["high"], joined["interval"]) == (3.0, 2.0, 4.0, "own")
    assert "spread" not in joined


def test_what_is_not_finite_becomes_null() -> None:
    joined = over_blocks([{"a": score(float("nan"))}, {"a": score(1.0)}])["a"]
    assert joined["value"] is joined["low"] is joined["spread"] is None
    assert joined["blocks"] == [None, 1.0]


def test_a_score_that_a_block_lacks_is_joined_over_the_others() -> None:
    joined = over_blocks([{"b": score(1.0)}, {"a": score(2.0), "b": score(3.0)}])
    assert (joined["a"]["value"], joined["b"]["value"]) == (2.0, 2.0)


def test_another_modality_is_refused() -> None:
    class Eye(Config):
        def build(self, run: Any) -> None: ...

    entry = Entry(ExtractorSpec(name="eye", summary="", config=""), Package("a", "1.0"))
    with pytest.raises(CapabilityError, match="extractor 'eye' takes image; samples holds points"):
        check_modality(Part(entry, Eye()), "points", "samples holds")


def test_named_evaluators_judge_through_named_extractors() -> None:
    scores = genplug.evaluate(REAL, FAKE, **FAKES)
    assert {name: found.value for name, found in scores.items()} == {"gap-fake-mean": 1.0}


def test_without_names_the_registry_chooses_as_far_as_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[run]\nevaluators = ["fake-cost", "fake-gap"]\nextractors = ["pixels", "fake-mean"]\n'
    (tmp_path / "registry.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    assert set(genplug.evaluate(images, images)) == {"gap-pixels", "gap-fake-mean"}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"evaluators": ["fake-gpa"]}, "did you mean 'fake-gap'?"),
        ({"extractors": ["fake-maen"]}, "did you mean 'fake-mean'?"),
        ({"options": {"evaluator.fake-cost.k": 1}}, "'fake-cost' is none of the evaluators here"),
        ({"options": {"extractor": {"pixels": {"k": 1}}}}, "'pixels' is none of the extractors here"),
        ({"options": {"extractor.fake-mean.k": 1}}, "unknown key 'extractor.fake-mean.k'"),
        ({"options": {"run.batch_size": 0}}, "bad value for 'run.batch_size'"),
        ({"options": {"generator.k": 1}}, "unknown section 'generator'"),
        ({"evaluators": ["fake-cost"]}, "evaluator 'fake-cost' needs generators, which is not given"),
    ],
)
def test_what_cannot_be_judged_is_refused(named: dict[str, Any], words: str) -> None:
    with pytest.raises(GenplugError) as caught:
        genplug.evaluate(REAL, FAKE, **{**FAKES, **named})
    assert words in str(caught.value)


def test_options_reach_extractors_of_an_evaluation_and_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from genplug_fakes.config import MeanConfig

    from genplug.runtime import Run, make_accelerator
    from genplug.settings import RunSettings, RuntimeSettings
    from genplug.testing.workplace import resolve_part

    seen = []
    monkeypatch.setattr(MeanConfig, "build", lambda config, run: seen.append(config) or "built")
    config = MeanConfig()
    part = dataclasses.replace(resolve_part("extractor", "fake-mean", {}), config=config)
    run = Run(make_accelerator(RunSettings(), RuntimeSettings()), extractors={"fake-mean": part})
    scoped: Any = run.within("inside", {}).extractor("fake-mean")
    assert scoped == run.extractor("fake-mean") == "built"
    assert seen == [config]


def test_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"samples of shape \(2,\), samples of \(3,\)"):
        genplug.evaluate(torch.zeros(4, 3), FAKE, **FAKES)


def test_features_need_an_extractor() -> None:
    from genplug.judging import judge
    from genplug.loading import light_run
    from genplug.protocols import EvalInputs
    from genplug.samplesets import ArraySet

    run = light_run()
    entry = run.catalog.get("evaluator", "fake-gap")
    inputs = EvalInputs(samples=ArraySet(FAKE), held_out=ArraySet(REAL))
    with pytest.raises(
        CapabilityError, match="'fake-gap' needs features; name an extractor that takes points"
    ):
        judge(run, [Part(entry, entry.config_model()())], [], inputs)


def test_public_names_are_what_they_say() -> None:
    """A submodule of the same name would hide a function once it is imported."""
    genplug.load, genplug.run, genplug.evaluate  # noqa: B018 (imports nearly all of core)
    assert all(callable(getattr(genplug, name)) for name in genplug.__all__)
    assert len(genplug.__all__) <= 26
    assert ConfigError.__mro__[1] is genplug.GenplugError
