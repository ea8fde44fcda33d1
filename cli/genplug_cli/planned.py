"""A plan as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from genplug.config import flatten
from genplug_cli.options import setting
from genplug_cli.terminal import table

if TYPE_CHECKING:
    from genplug.parts import Part, Resolved


def plan_text(plan: Mapping[str, Any], resolved: Resolved) -> str:
    """Return what would run: a line for each fact, components with the options that differ from defaults."""
    rows = [*_generator(plan["generator"]), *_options("generator", resolved.generator)]
    rows += _objectives(plan, resolved)
    if sweep := resolved.sweep:
        rows += [("sweep", f"{sweep.key} = {', '.join(setting(value) for value in sweep.values)}")]
    rows += [("data set", resolved.dataset.name), *_options("dataset", resolved.dataset)]
    rows += [("extractors", ", ".join(plan["extractors"]))]
    weights = plan["extractor_weights"].items()
    rows += [("  weights", f"{name}: {status}") for name, status in weights if status != "none needed"]
    rows += [("evaluators", ", ".join(plan["evaluators"]))]
    rows += [("models", ", ".join(plan["models"])), ("samples", _samples(plan["samples"]))]
    return table([(name, text or "none") for name, text in rows])


def _generator(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("generator", f"{_title(facts)} ({facts['package']})")]
    rows += [("  provides", ", ".join(facts["provides"])), ("  weights", facts["weights"])]
    rows += [("  licence", facts["licence"])] if facts.get("licence") else []
    return rows + [("  published", text) for text in facts["published"]]


def _title(facts: Mapping[str, Any]) -> str:
    return str(facts["name"] if facts.get("preset") in (None, "none") else facts["preset"])


def _objectives(plan: Mapping[str, Any], resolved: Resolved) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for facts, part in zip(plan["objectives"], resolved.objectives, strict=True):
        rows += [("objective", f"{_title(facts)} ({facts['package']}), {facts['stage']}")]
        rows += [("  needs", ", ".join(facts["needs"]))]
        rows += [(f"  {name.replace('_', ' ')}", _count(value)) for name, value in facts["cost"].items()]
        rows += _options("objective", part)
    rows += [
        (f"  {facts['key']}", f"{facts['generator']}; weights: {facts['weights']}")
        for facts in plan["second_generators"]
    ]
    return rows or [("objective", "none: sample and evaluate only")]


def _options(section: str, part: Part) -> list[tuple[str, str]]:
    """Return the options that somebody set: a preset, a file or a flag."""
    given = part.config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return [("  option", f"{section}.{key} = {setting(value)}") for key, value in flatten(given)]


def _samples(facts: Mapping[str, Any]) -> str:
    text = f"{facts['per_generator']} per generator in {facts['blocks']} seed blocks"
    if facts["evaluations"] is None:
        return text
    each = facts["evaluations_per_sample"]
    return f"{text}; {_count(facts['evaluations'])} network evaluations ({each} per sample)"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
