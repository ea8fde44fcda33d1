"""One component or preset in full: options with types, defaults and bounds, presets, an example."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

from genplug.config import Component, Kind, Needs, fields
from genplug.errors import GenplugError, nearest, unknown
from genplug.presets import Registry
from genplug.registry import Catalog, Entry
from genplug.specs import ExtractorSpec, GeneratorSpec, ObjectiveSpec, Preset, Spec, unmet
from genplug_cli.listing import entry_data, facts, presets_of
from genplug_cli.options import setting
from genplug_cli.recipe import recipe_data, recipe_text
from genplug_cli.terminal import plain, say, say_json, table

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of", "min_length": "length ≥"}


def show(name: str, kind: str | None, installed: Catalog, data: Registry, as_json: bool) -> None:
    """Print everything that has this name."""
    entries = [entry for entry in installed if entry.spec.name == name and kind in (None, entry.spec.kind)]
    preset = data.presets.get(name) if kind in (None, "preset") else None
    named = kind == "recipe" or any(one.recipe.name == name for one in installed.experiments)
    recipe = installed.recipe(name) if named and kind in (None, "recipe") else None
    if not entries and preset is None and recipe is None:
        raise _unknown(name, kind, installed, data)
    if as_json:
        described = [
            {**entry_data(entry, data), **_options(entry), "example": example(entry, installed)}
            for entry in entries
        ]
        found = {"components": described, "presets": [_preset_data(preset)] if preset else []}
        say_json({**found, "recipes": [recipe_data(recipe)] if recipe else []})
        return
    blocks = [entry_text(entry, installed, data) for entry in entries]
    blocks += [preset_text(preset)] if preset else []
    blocks += [recipe_text(recipe)] if recipe else []
    say("\n\n".join(blocks))


def _unknown(name: str, kind: str | None, installed: Catalog, data: Registry) -> GenplugError:
    """Say why there is nothing of this name: it clashes, or nearly nothing is called so."""
    for clash, entries in installed.clashes.items():
        if clash[1] == name and kind in (None, clash[0]):
            packages = " and ".join(str(entry.package) for entry in entries)
            return GenplugError(f"{clash[0]} {name!r} is registered by {packages}; uninstall one of them")
    known = {entry.spec.name for entry in installed if kind in (None, entry.spec.kind)}
    presets = set(data.presets) if kind in (None, "preset") else set()
    if nearest(name, presets) and not nearest(name, known):
        return GenplugError(f"no preset named {name!r}{nearest(name, presets)}")
    recipes = {one.recipe.name for one in installed.experiments} if kind is None else set()
    return unknown(kind or "component, preset or recipe", name, known | recipes or presets)


def entry_text(entry: Entry, installed: Catalog, data: Registry) -> str:
    """Return a component in full."""
    spec = entry.spec
    lines = [f"{spec.kind} {spec.name} ({entry.package})", spec.summary, ""]
    known = {**facts(spec), "modality": spec.modality}
    words = {key: ", ".join(value) if isinstance(value, list) else value for key, value in known.items()}
    lines += [table([(key, value) for key, value in words.items() if value]), ""]
    lines += [_options_text(entry), ""]
    if presets := presets_of(spec, data):
        lines += ["presets", table([_preset_row(preset) for preset in presets], indent="  "), ""]
    return "\n".join([*lines, "example", f"  {example(entry, installed)}"])


def _options_text(entry: Entry) -> str:
    options = _options(entry)
    if "error" in options:
        return f"broken: {options['error']}"
    rows = [
        (o["key"], o["type"], setting(o["default"]), o["bounds"], o["description"])
        for o in options["options"]
    ]
    if not rows:
        return "no options"
    return "options\n" + table(rows, ("key", "type", "default", "bounds", "meaning"), indent="  ")


def _options(entry: Entry) -> dict[str, Any]:
    """Return a component's options as data, or why they cannot be told."""
    try:
        model = entry.config_model()
    except GenplugError as error:
        return {"error": str(error)}
    return {"options": [_option(key, info) for key, info in fields(model, section(entry))]}


def section(entry: Entry) -> str:
    """Return the prefix that a component's options have in a run's configuration."""
    kind, name = entry.spec.kind, entry.spec.name
    return {
        "sampler": "generator.sampler",
        "extractor": f"extractor.{name}",
        "evaluator": f"evaluator.{name}",
    }.get(kind, kind)


def _option(key: str, info: Any) -> dict[str, Any]:
    default = "required" if info.is_required() else info.get_default(call_default_factory=True)
    return {
        "key": key,
        "type": type_text(info.annotation, info.metadata),
        "default": plain(default.model_dump() if hasattr(default, "model_dump") else default),
        "bounds": bounds_text(info.metadata),
        "description": info.description or "",
    }


def type_text(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Return a field's type in words."""
    for mark in metadata:
        if isinstance(mark, Kind):
            return mark.kind
        if isinstance(mark, Needs):
            return "generator"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else type_text(a) for a in arguments)
    if hasattr(annotation, "__metadata__"):
        return type_text(arguments[0], annotation.__metadata__)
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_text(arguments[0])}" if arguments else "list"
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return "component"
    return {"str": "text", "bool": "true|false"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def bounds_text(metadata: Iterable[Any]) -> str:
    """Return the bounds of a field."""
    found = [(sign, getattr(mark, word, None)) for mark in metadata for word, sign in _BOUNDS.items()]
    return ", ".join(f"{sign} {value}" for sign, value in found if value is not None)


def _preset_row(preset: Preset) -> tuple[str, str, str]:
    scores = ", ".join(f"{p.score} {p.value:g}" for p in preset.published)
    return preset.name, preset.licence or "", "; ".join(filter(None, (preset.summary, scores)))


def preset_text(preset: Preset) -> str:
    """Return a preset in full."""
    rows = [("data set", preset.dataset), ("licence", preset.licence), ("address", preset.address)]
    rows += [("sha256", preset.sha256 or ("unknown" if preset.address else None)), ("from", preset.origin)]
    rows += [("weights", preset_weights(preset))]
    rows += [("option", f"{key} = {setting(value)}") for key, value in _preset_values(preset)]
    rows += [
        ("to be set", ", ".join(preset.unset)),
        *(("recipe", f"{k}: {v}") for k, v in preset.recipes.items()),
    ]
    rows += [
        ("published", f"{p.score} {p.value:g} ({'; '.join(filter(None, (p.source, p.settings)))})")
        for p in preset.published
    ]
    lines = [f"preset {preset.name} of {preset.kind} {preset.family}", preset.summary, ""]
    lines += [
        table([(name, value) for name, value in rows if value]),
        "",
        "example",
        f"  {preset_example(preset)}",
    ]
    return "\n".join(lines)


def preset_weights(preset: Preset) -> str | None:
    """Return where a preset's weights are and what is known of them, or how to get them."""
    from genplug.receipts import read_receipt
    from genplug.weights import find

    try:
        path = find(preset, None)
        receipt = read_receipt(path) if path else None
    except GenplugError as error:
        return f"MISSING: {error}"
    if path is None:
        return None
    return f"{path}; {receipt.trust}" if receipt else str(path)


def _preset_values(preset: Preset) -> list[tuple[str, Any]]:
    from genplug.config import flatten

    section = f"extractor.{preset.family}" if preset.kind == "extractor" else preset.kind
    return list(flatten(preset.values, f"{section}."))


def _preset_data(preset: Preset) -> dict[str, Any]:
    published = [vars(p) for p in preset.published]
    return {
        **vars(preset),
        "weights": preset_weights(preset),
        "published": published,
        "example": preset_example(preset),
    }


def preset_example(preset: Preset) -> str:
    """Return a command that uses a preset."""
    if preset.kind == "generator":
        return f"genplug run --generator {preset.name} --objective none"
    if preset.kind == "extractor":
        return f"genplug evaluate REAL GENERATED --extractor {preset.name}"
    return f"genplug run --generator G --objective {preset.name}"


def example(entry: Entry, installed: Catalog) -> str:
    """Return a command that uses a component."""
    name = entry.spec.name
    if isinstance(entry.spec, ObjectiveSpec):
        return f"genplug run --generator {_fitting(entry.spec, installed)} --objective {name}"
    return {
        "generator": f"genplug run --generator {name} --objective none",
        "sampler": f"genplug run --generator G --objective none --set generator.sampler={name}",
        "extractor": f"genplug evaluate REAL GENERATED --extractor {name}{_argument(entry.spec)}",
        "distance": f"genplug run --generator G --objective O --set objective.distance={name}",
        "evaluator": f"genplug evaluate REAL GENERATED --evaluator {name}",
        "dataset": f"genplug run --generator G --objective O --dataset {name}",
    }[entry.spec.kind]


def _argument(spec: Spec) -> str:
    return f":{spec.argument.upper()}" if isinstance(spec, ExtractorSpec) and spec.argument else ""


def _fitting(spec: ObjectiveSpec, installed: Catalog) -> str:
    """Return a generator that meets an objective's needs."""
    specs = [entry.spec for entry in installed.entries["generator"].values()]
    fit = [
        s.name for s in specs if isinstance(s, GeneratorSpec) and not unmet(spec.needs, frozenset(s.provides))
    ]
    return min(fit, default="G")
