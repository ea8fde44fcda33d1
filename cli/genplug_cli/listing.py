"""The list of what is installed. Nothing here imports a component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genplug.presets import Registry
from genplug.registry import Broken, Catalog, Entry, Experiment, Note
from genplug.specs import (
    DatasetSpec,
    DistanceSpec,
    EvaluatorSpec,
    ExtractorSpec,
    GeneratorSpec,
    ObjectiveSpec,
    Preset,
    Spec,
    arrow,
)
from genplug_cli.terminal import say, say_json, table

HEAD = ("kind", "name", "package", "presets", "what it is")


def show(kind: str | None, installed: Catalog, data: Registry, as_json: bool) -> None:
    """Print components, presets, recipes, clashes and broken plugins."""
    entries = [entry for entry in installed if kind in (None, entry.spec.kind)]
    presets = [data.presets[name] for name in sorted(data.presets)] if kind in (None, "preset") else []
    recipes = sorted(installed.experiments, key=lambda one: one.recipe.name)
    recipes = recipes if kind in (None, "recipe") else []
    if as_json:
        say_json(as_data(entries, presets, recipes, installed, data))
        return
    rows = [*(entry_row(entry, data) for entry in entries), *map(recipe_row, recipes)]
    if rows:
        say(table(rows, HEAD))
    if kind == "preset" and presets:
        say(table([preset_row(preset) for preset in presets], ("preset", "data set", "licence", "summary")))
    elif not rows:
        say(f"no {kind or 'plugin'} is installed")
    for line in troubles(kind, installed, data):
        say(line)


def entry_row(entry: Entry, data: Registry) -> list[str]:
    """Return one component as a row."""
    spec = entry.spec
    count = len(presets_of(spec, data))
    words = traits(spec)
    return [spec.kind, spec.name, str(entry.package), str(count or ""), f"{spec.summary.rstrip('.')}{words}"]


def recipe_row(one: Experiment) -> list[str]:
    """Return one recipe as a row."""
    recipe = one.recipe
    what = f"{recipe.summary.rstrip('.')} (about {recipe.minutes:g} minutes)"
    return ["recipe", recipe.name, str(one.package), "", what]


def preset_row(preset: Preset) -> list[str]:
    """Return one preset as a row."""
    return [preset.name, preset.dataset or "", preset.licence or "", preset.summary]


def presets_of(spec: Spec, data: Registry) -> list[Preset]:
    """Return the presets of a component; generators, objectives and extractors have some."""
    return [preset for preset in data.of(spec.name) if preset.kind == spec.kind]


def traits(spec: Spec) -> str:
    """Return capabilities, needs or scores in brackets."""
    words = facts(spec)
    parts = [
        f"{key}: {', '.join(value) if isinstance(value, list) else value}"
        for key, value in words.items()
        if value
    ]
    return f" ({'; '.join(parts)})" if parts else ""


def facts(spec: Spec) -> dict[str, Any]:
    """Return what a kind's spec says beyond name and summary."""
    match spec:
        case GeneratorSpec():
            return {"provides": list(spec.provides)}
        case ObjectiveSpec():
            lists = {key: list(getattr(spec, key)) for key in ("needs", "adds", "removes", "inputs")}
            return {"stage": spec.stage, **lists}
        case ExtractorSpec():
            return {"outputs": list(spec.outputs)}
        case DistanceSpec():
            return {"differentiable": "yes" if spec.differentiable else "no"}
        case EvaluatorSpec():
            scores = [f"{name} {arrow(better)}" for name, better in spec.scores.items()]
            return {"inputs": list(spec.inputs), "scores": scores}
        case DatasetSpec():
            return {"splits": list(spec.splits)}
    return {}


def troubles(kind: str | None, installed: Catalog, data: Registry) -> list[str]:
    """Return a line for each clash, each broken plugin or preset, and each plugin that slows all down."""
    lines = [
        f"clash: {clashing} {name!r} is registered by {' and '.join(str(e.package) for e in entries)}; "
        "neither can be used until one is uninstalled"
        for (clashing, name), entries in installed.clashes.items()
        if kind in (None, clashing)
    ]
    lines += [f"broken: {_origin(broken)}: {broken.error}" for broken in (*installed.broken, *data.broken)]
    return lines + [f"note: {_origin(note)}: {note.text}" for note in installed.notes]


def _origin(item: Broken | Note) -> str:
    return f"{item.plugin} ({str(item.package).strip()})"


def as_data(
    entries: Sequence[Entry],
    presets: Sequence[Preset],
    recipes: Sequence[Experiment],
    installed: Catalog,
    data: Registry,
) -> dict[str, Any]:
    """Return the list as JSON has it."""
    return {
        "components": [entry_data(entry, data) for entry in entries],
        "presets": [{**vars(preset), "published": [vars(p) for p in preset.published]} for preset in presets],
        "recipes": [
            {**vars(one.recipe), "package": one.package.name, "version": one.package.version}
            for one in recipes
        ],
        "clashes": [
            {"kind": kind, "name": name, "packages": [str(entry.package) for entry in clash]}
            for (kind, name), clash in installed.clashes.items()
        ],
        "broken": [
            {"plugin": b.plugin, "package": b.package.name, "version": b.package.version, "error": b.error}
            for b in (*installed.broken, *data.broken)
        ],
        "notes": [
            {"plugin": n.plugin, "package": n.package.name, "version": n.package.version, "note": n.text}
            for n in installed.notes
        ],
    }


def entry_data(entry: Entry, data: Registry) -> dict[str, Any]:
    """Return one component as JSON has it."""
    spec = entry.spec
    own = {**facts(spec), **({"scores": dict(spec.scores)} if isinstance(spec, EvaluatorSpec) else {})}
    if isinstance(spec, DistanceSpec):
        own["differentiable"] = spec.differentiable
    return {
        "kind": spec.kind,
        "name": spec.name,
        "summary": spec.summary,
        "package": entry.package.name,
        "version": entry.package.version,
        "modality": spec.modality,
        "config": spec.config,
        "presets": [preset.name for preset in presets_of(spec, data)],
        **own,
    }
