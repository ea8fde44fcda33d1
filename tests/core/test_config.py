"""Configuration: which value wins, and what a mistake is answered with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genplug.config import flatten, merge, nest, parse_set
from genplug.errors import CapabilityError, ConfigError, GenplugError
from genplug.parts import Resolved
from genplug.resolving import resolve

REGISTRY = """
[preset."fake-points.wide"]
values = { width = 64, sampler = { name = "euler", steps = 5 } }

[preset."fake-points.partly"]
values = { "sampler.steps" = 6 }

[preset."fake-points.vague"]
unset = ["width"]

[preset."fake-points.either"]
unset = ["width|sampler.steps"]

[preset."fake-points.wrong"]
values = { wdith = 3 }
"""
NAMED = {"dataset": "fake-rings", "extractors": ["fake-mean"], "evaluators": ["fake-gap"]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "registry.toml").write_text(REGISTRY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def resolved(generator: str, *sets: tuple[str, Any], file: dict[str, Any] | None = None) -> Resolved:
    return resolve(
        generator=generator, objectives=["none"], config=file, config_name="my.toml", sets=sets, **NAMED
    )


def options(generator: str, *sets: tuple[str, Any], file: dict[str, Any] | None = None) -> dict[str, Any]:
    return resolved(generator, *sets, file=file).generator.config.model_dump()


def refusal(
    *sets: tuple[str, Any], generator: str = "fake-points", file: dict[str, Any] | None = None
) -> str:
    with pytest.raises(GenplugError) as caught:
        resolved(generator, *sets, file=file)
    return str(caught.value)


def test_default_then_preset_then_file_then_set() -> None:
    file = {"generator": {"width": 7}}
    assert options("fake-points")["width"] == 32
    assert options("fake-points.wide")["width"] == 64
    assert options("fake-points.wide", file=file)["width"] == 7
    assert options("fake-points.wide", ("generator.width", 9), file=file)["width"] == 9


@pytest.mark.parametrize(
    ("generator", "sets", "name", "steps"),
    [
        ("fake-points", [("generator.sampler.steps", 3)], "heun", 3),
        ("fake-points.partly", [], "heun", 6),
        ("fake-points.wide", [("generator.sampler.steps", 3)], "euler", 3),
        ("fake-points.wide", [("generator.sampler", "euler")], "euler", 5),
    ],
)
def test_a_part_of_a_component_keeps_the_rest(generator: str, sets: Any, name: str, steps: int) -> None:
    sampler = options(generator, *sets)["sampler"]
    assert (sampler["name"], sampler["steps"]) == (name, steps)


def test_a_component_named_anew_drops_the_options_of_the_one_before() -> None:
    plain = options("fake-points", ("generator.sampler", "euler"))["sampler"]
    assert options("fake-points.wide", ("generator.sampler.name", "heun"))["sampler"]["steps"] != 5
    assert plain["name"] == "euler"
    assert plain["steps"] != 8


def test_a_part_of_a_section_keeps_the_rest_of_its_default() -> None:
    whole, part = (
        resolve(generator="fake-points", objectives=["ddo"], sets=sets, **NAMED)
        .objectives[0]
        .options()["train"]
        for sets in ([], [("objective.train.steps", 3)])
    )
    assert part == {**whole, "steps": 3}


@pytest.mark.parametrize("order", [1, -1])
def test_a_component_and_its_options_can_be_set_in_any_order(order: int) -> None:
    sets = [("a.sampler", "heun"), ("a.sampler.steps", 8)][::order]
    assert nest(dict(sets)) == {"a": {"sampler": {"name": "heun", "steps": 8}}}


def test_flatten_undoes_nest() -> None:
    flat = {"a.b.c": 1, "a.d": [2], "e": "x"}
    assert dict(flatten(nest(flat))) == flat


def test_merging_leaves_its_layers_alone() -> None:
    below, above = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(below, above) == {"a": {"b": 1, "c": 2}}
    assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_values_of_set_are_toml_or_else_text() -> None:
    texts = ["a.b=3", "a=0.5", "a=true", "a=[1, 2]", "a=heun", "a=", 'a="3"', "a=x=y"]
    assert [parse_set(text)[1] for text in texts] == [3, 0.5, True, [1, 2], "heun", "", "3", "x=y"]


@pytest.mark.parametrize("text", ["a", "=3", "a..b=3", ".a=3"])
def test_set_without_key_and_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_set(text)


def test_an_unknown_key_is_answered_with_the_nearest_and_its_origin() -> None:
    nearest = "; did you mean 'generator.width'?"
    assert refusal(("generator.wdith", 3)) == (
        f"unknown key 'generator.wdith' (from --set generator.wdith){nearest}"
    )
    file = {"generator": {"wdith": 3}}
    assert refusal(file=file) == f"unknown key 'generator.wdith' (from my.toml){nearest}"
    assert refusal(generator="fake-points.wrong") == (
        f"unknown key 'generator.wdith' (from preset fake-points.wrong){nearest}"
    )


def test_an_unknown_key_of_an_inner_component_is_named_in_full() -> None:
    text = refusal(("generator.sampler.stesp", 3))
    assert text.startswith("unknown key 'generator.sampler.stesp' (from --set generator.sampler.stesp)")
    assert text.endswith("did you mean 'generator.sampler.steps'?")


def test_a_bad_value_is_named_with_key_origin_and_bound() -> None:
    assert refusal(("generator.width", 0)) == (
        "bad value for 'generator.width' (from --set generator.width): "
        "input should be greater than or equal to 1 (got 0)"
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (
            "generatr.width",
            3,
            "unknown section 'generatr' (from --set generatr.width); did you mean 'generator'?",
        ),
        ("evaluator.fake-gap", 3, "'evaluator.fake-gap' must be a section, not 3"),
        ("evaluator", "fake-gap", "'evaluator' must be a section, not 'fake-gap'"),
        ("evaluator.fake-gpa.x", 3, "no evaluator named 'fake-gpa'; did you mean 'fake-gap'?"),
        ("evaluator.fake-cost.x", 3, "--set evaluator.fake-cost: 'fake-cost' is none of the evaluators here"),
        ("generator.sampler", "hein", "no sampler named 'hein'; did you mean 'heun'?"),
        ("run.seed.x", 3, "bad value for 'run.seed' (from --set run.seed.x)"),
    ],
)
def test_mistakes_are_one_line(key: str, value: Any, words: str) -> None:
    assert refusal((key, value)).startswith(words)


def test_options_of_unused_components_may_stay_in_a_file() -> None:
    assert resolved("fake-points", file={"evaluator": {"fake-cost": {}}}).evaluators[0].name == "fake-gap"


def test_a_value_that_the_source_of_a_preset_lacks_must_be_given() -> None:
    assert "its source gives no value for generator.width" in refusal(generator="fake-points.vague")
    assert options("fake-points.vague", ("generator.width", 5))["width"] == 5
    both = "its source gives no value for generator.width or generator.sampler.steps; set it with --set"
    assert both in refusal(generator="fake-points.either")
    assert options("fake-points.either", ("generator.sampler.steps", 5))["sampler"]["steps"] == 5


def test_the_record_replays_the_run() -> None:
    once = resolved("fake-points.wide", ("generator.sampler.steps", 3), ("run.seed", 4))
    again = resolve(config=once.record())
    assert again.record() == once.record()


def test_a_recorded_run_replays_without_its_preset(here: Path) -> None:
    once = resolved("fake-points.wide", ("run.seed", 4)).record()
    (here / "registry.toml").unlink()
    with pytest.raises(GenplugError, match=r"no preset named 'fake-points\.wide'"):
        resolved("fake-points.wide")
    assert resolve(config=once).record() == once


def test_a_run_directory_here_does_not_capture_other_names(here: Path) -> None:
    import tomli_w

    from genplug.layers import layer
    from genplug.presets import registry
    from genplug.registry import catalog
    from genplug.resolving import resolve_generator

    (here / "run.toml").write_text(tomli_w.dumps(resolved("fake-points.wide").record()))
    found = [resolve_generator(name, catalog(), registry(catalog())).name for name in ("fake-tokens", ".")]
    assert found == ["fake-tokens", "fake-points"]
    layers = layer({}, [("generator.width", 3)])
    assert resolve_generator(".", catalog(), registry(catalog()), layers).options()["width"] == 3


def test_listed_defaults_of_a_model_inside_are_those_of_its_place() -> None:
    from genplug.config import fields
    from genplug_ddo.config import DdoConfig, PretrainConfig

    ddo, pretrain = (dict(fields(model)) for model in (DdoConfig, PretrainConfig))
    assert (ddo["train.warmup"].default, ddo["train.ema_halflife"].default) == (0.2, 25.0)
    assert (pretrain["train.warmup"].default, ddo["train.steps"].default) == (0.0, 1000)


def test_an_evaluator_without_the_outputs_it_needs_is_refused_before_any_work() -> None:
    with pytest.raises(CapabilityError, match="'inception-score' needs an extractor with output logits"):
        resolve(generator="edm2", objectives=["none"], extractors=["pixels"], evaluators=["inception-score"])
