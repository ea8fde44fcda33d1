"""From what the user typed to what will run: layered configuration and components.

Nothing here imports torch: `--plan`, errors and listings stay fast.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from genplug.absent import naming_packages
from genplug.config import (
    Component,
    Config,
    Kind,
    Needs,
    flatten,
    merge,
    nest,
    read_toml,
    validate,
)
from genplug.errors import ConfigError, RunDirectoryError, nearest, shown
from genplug.extractors import parse, spec_of
from genplug.layers import Layers, layer, name_of, section_of
from genplug.matching import match
from genplug.parts import Part, Reference, Resolved
from genplug.paths import RUN_FILE, split_reference
from genplug.presets import Registry, registry
from genplug.registry import Catalog, Entry, catalog
from genplug.settings import RunSettings, RuntimeSettings
from genplug.specs import DatasetSpec, Preset
from genplug.sweeps import Sweep, read_sweep


def resolve(
    *,
    generator: str | None = None,
    objectives: Sequence[str] | None = None,
    dataset: str | None = None,
    extractors: Sequence[str] | None = None,
    evaluators: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    config_name: str = "",
    sets: Sequence[tuple[str, Any]] = (),
    sweep: str | None = None,
    catalog_: Catalog | None = None,
) -> Resolved:
    """Resolve a run; every mistake is one `GenplugError`, before anything heavy happens."""
    installed = catalog_ or catalog()
    layers = layer(config or {}, sets, config_name)
    data = registry(installed).with_recorded(layers.section("preset"), config_name)
    defaults = data.defaults
    part = Resolver(installed, data, layers)
    generator_part = part.one("generator", generator, default=defaults.get("run", {}).get("generator"))
    dataset_default = (generator_part.preset and generator_part.preset.dataset) or defaults.get(
        "run", {}
    ).get("dataset")
    dataset_part = part.dataset(dataset, dataset_default)
    chosen = {"extractors": extractors, "evaluators": evaluators}
    settings = run_settings(data, layers, dataset_part.name, {k: list(v) for k, v in chosen.items() if v})
    swept = read_sweep(sweep, layers.section("sweep"))
    chains = _chains(part, objectives, generator_part, swept)
    asked = [name for chain in chains.values() for one in chain for name in extractor_names(one.config)]
    besides = [name for name in dict.fromkeys(asked) if name not in settings.extractors]
    resolved = Resolved(
        run=settings,
        runtime=validate(RuntimeSettings, layers.section("runtime"), "runtime", layers.origins),
        generator=generator_part,
        objectives=next(iter(chains.values())),
        dataset=dataset_part,
        extractors=part.extractors(settings.extractors, besides),
        objective_extractors=part.extractors(besides, settings.extractors),
        evaluators=part.named("evaluator", settings.evaluators),
        references=_all_references(generator_part, chains.values(), installed, data),
        catalog=installed,
        registry=data,
        sweep=swept,
        swept=chains if swept else {},
    )
    match(resolved)
    return resolved


def extractor_names(config: Config) -> list[str]:
    """Return the extractors that a configuration names, as options marked `ExtractorName`."""
    marked = [key for key, info in type(config).model_fields.items() if Kind("extractor") in info.metadata]
    values = [getattr(config, key) for key in marked]
    return [value for value in values if isinstance(value, str) and value]


def _all_references(
    generator: Part, chains: Iterable[Sequence[Part]], installed: Catalog, data: Registry
) -> tuple[Reference, ...]:
    """Resolve the second generators of a run, each once."""
    owners = [generator, *(part for chain in chains for part in chain)]
    found = [reference for owner in owners for reference in references(owner, installed, data)]
    return tuple({(r.owner.name, r.key, r.text): r for r in found}.values())


def _chains(
    resolver: Resolver, flags: Sequence[str] | None, generator: Part, sweep: Sweep | None
) -> dict[str, tuple[Part, ...]]:
    """Return the chain of objectives; with a sweep, that of each value by its model's name."""
    if sweep is None:
        return {"": resolver.objectives(flags, generator)}
    names = [name for name in flags or () if name != "none"]
    count = len(names) if flags else len(_items(resolver.layers.section("objective"), 0))
    if sweep.number > count:
        there = "is no objective" if not count else f"{'is' if count == 1 else 'are'} {count}"
        raise ConfigError(f"sweep of {sweep.key!r}: objective {sweep.number} is meant, but there {there}")
    found = {}
    for value in sweep.values:
        layers = resolver.layers.with_value(sweep.key, value, f"sweep {sweep.key}")
        chain = Resolver(resolver.catalog, resolver.data, layers).objectives(flags, generator)
        found[sweep.model(value)] = chain
    return found


def run_settings(
    data: Registry, layers: Layers, dataset: str = "", flags: Mapping[str, Any] | None = None
) -> RunSettings:
    """Return `[run]`: the registry's defaults, those for a data set, the user's layers, flags; later wins."""
    general = {k: v for k, v in data.defaults.get("run", {}).items() if k in RunSettings.model_fields}
    special = data.defaults.get("dataset", {}).get(dataset, {})
    return validate(
        RunSettings, merge(general, special, layers.section("run"), flags or {}), "run", layers.origins
    )


class Resolver:
    """Turns names and sections into parts."""

    def __init__(self, installed: Catalog, data: Registry, layers: Layers) -> None:
        self.catalog, self.data, self.layers = installed, data, layers

    def one(
        self,
        kind: str,
        flag: str | None,
        *,
        default: str | None = None,
        section: str = "",
        values: Mapping[str, Any] | None = None,
        recipe: str = "",
    ) -> Part:
        """Resolve a component from a flag (`name` or `name.preset`), its section, or a default."""
        if flag == "":
            raise ConfigError(
                f"an empty name for the {kind}; name one of: {', '.join(self.catalog.names(kind))}"
            )
        options = dict(self.layers.section(kind) if values is None else values)
        preset, named = (name_of(options, key, section or kind) for key in ("preset", "name"))
        options = {key: value for key, value in options.items() if key not in ("preset", "name")}
        if flag and named and flag.partition(".")[0] != named:
            raise ConfigError(
                f"{kind} {flag!r} is asked for, but the configuration says {section or kind}.name = {named!r}"
            )
        name = flag or named or (preset if preset and preset != "none" else default)
        if not isinstance(name, str) or not name:
            raise ConfigError(f"no {kind} given; name one of: {', '.join(self.catalog.names(kind))}")
        if "." in name:
            preset = name
        return self._part(kind, name.partition(".")[0], options, section or kind, preset or recipe)

    def _part(self, kind: str, name: str, values: dict[str, Any], section: str, preset_name: str) -> Part:
        entry = self.catalog.get(kind, name)
        default = self.data.defaults.get(kind, {}).get(name, {}).get("preset") or entry.spec.preset
        preset_name = preset_name or default or "none"
        preset = None if preset_name == "none" else self.data.preset(preset_name)
        if preset is not None and preset.family != name:
            raise ConfigError(f"preset {preset.name!r} is not one of {kind} {name!r}")
        weights = name_of(values, "weights", section)
        values = {key: value for key, value in values.items() if key != "weights"}
        model = entry.config_model()
        merged = merge(nest(dict(flatten(preset.values))) if preset else {}, values)
        self._check_unset(preset, values, section)
        given = (
            {f"{section}.{key}": f"preset {preset.name}" for key, _ in flatten(preset.values)}
            if preset
            else {}
        )
        config = validate(model, merged, section, given | self.layers.origins)
        return Part(entry, self._components(config, section), preset, weights)

    def _check_unset(self, preset: Preset | None, values: Mapping[str, Any], section: str) -> None:
        """A value that the preset's source does not give must come from the user."""
        given = {key for key, _ in flatten(values)}
        missing = [key for key in (preset.unset if preset else ()) if not given & set(key.split("|"))]
        if missing and preset:
            keys = ", ".join(f"{section}.{key}".replace("|", f" or {section}.") for key in missing)
            raise ConfigError(
                f"preset {preset.name!r}: its source gives no value for {keys}; set it with --set"
            )

    def _components(self, config: Config, section: str) -> Config:
        """Validate the components named inside a configuration against what is installed."""
        changes: dict[str, Any] = {}
        for name, info in type(config).model_fields.items():
            value = getattr(config, name)
            for mark in info.metadata:
                if isinstance(mark, Kind) and isinstance(value, Component):
                    entry = self.catalog.get(mark.kind, value.name)
                    inner = validate(
                        entry.config_model(), value.options, f"{section}.{name}", self.layers.origins
                    )
                    changes[name] = Component(name=value.name, **inner.model_dump())
        return config.model_copy(update=changes) if changes else config

    def dataset(self, flag: str | None, default: str | None) -> Part:
        """Resolve the data set; a path goes to the first one that opens paths."""
        installed = self.catalog.entries["dataset"]
        opening = [name for name in self.catalog.names("dataset") if _opens_paths(installed[name])]
        if flag and flag not in installed and opening and ("/" in flag or os.path.exists(flag)):
            values = {**self.layers.section("dataset"), "path": flag}
            return self.one("dataset", opening[0], values=values)
        return self.one("dataset", flag, default=default)

    def named(self, kind: str, names: Sequence[str]) -> tuple[Part, ...]:
        """Resolve components that a run uses several of; options are in `[KIND.NAME]`."""
        sections = self.layers.section(kind)
        for name in sections:
            self.catalog.get(kind, name)
        self._check_used(kind, names)
        return tuple(
            self._part(kind, name, dict(section_of(sections, name, f"{kind}.{name}")), f"{kind}.{name}", "")
            for name in names
        )

    def extractors(self, references: Sequence[str], others: Sequence[str] = ()) -> tuple[Part, ...]:
        """Resolve extractors; options are in `[extractor.NAME]`, those of one in its own section.

        `others` are used in the run too, so that sections may have their names.
        """
        sections = self.layers.section("extractor")
        for name in sections:
            self.catalog.get("extractor", parse(name).family)
        used = [parse(reference) for reference in (*references, *others)]
        self._check_used("extractor", [name for one in used for name in (one.family, one.head)])
        return tuple(self._extractor(reference, sections) for reference in references)

    def _extractor(self, reference: str, sections: Mapping[str, Any]) -> Part:
        spec, parsed = spec_of(self.catalog, reference), parse(reference)
        values: dict[str, Any] = {}
        for name in dict.fromkeys((parsed.family, parsed.head)):
            values |= section_of(sections, name, f"extractor.{name}")
        if parsed.argument and spec.argument:
            values[spec.argument] = parsed.argument
        section = f"extractor.{parsed.family}"
        chosen = name_of(values, "preset", section)
        values = {key: value for key, value in values.items() if key != "preset"}
        part = self._part("extractor", parsed.family, values, section, parsed.preset or chosen or "")
        return replace(part, label=reference)

    def _check_used(self, kind: str, names: Sequence[str]) -> None:
        """Refuse `--set` options of components that are not used; a file may hold more than one run needs."""
        for name in self.layers.sets.get(kind, {}):
            if name not in names:
                hint = nearest(name, names) or f" (they are: {', '.join(names) or 'none'})"
                raise ConfigError(f"--set {kind}.{name}: {name!r} is none of the {kind}s here{hint}")

    def objectives(self, flags: Sequence[str] | None, generator: Part) -> tuple[Part, ...]:
        """Resolve the chain of objectives: flags, with `[objective]` or `[[objective]]` for options."""
        names = [name for name in (flags or []) if name != "none"]
        items = _items(self.layers.section("objective"), len(names))
        if names and len(items) != len(names):
            raise ConfigError(f"{len(names)} objectives given but {len(items)} in the configuration")
        if flags and not names:
            return ()
        parts = []
        for index, values in enumerate(items):
            name = names[index] if names else None
            family = str(name or values.get("name", "")).partition(".")[0]
            recipe = dict(generator.preset.recipes).get(family, "") if generator.preset else ""
            where = "objective" if len(items) == 1 else f"objective.{index + 1}"
            parts.append(self.one("objective", name, section=where, values=values, recipe=recipe))
        return tuple(parts)


def _opens_paths(entry: Entry) -> bool:
    return isinstance(entry.spec, DatasetSpec) and entry.spec.opens_paths


def _items(section: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the options of each objective: `objective.KEY` for one, `objective.N.KEY` for several."""
    numbers = sorted((key for key in section if key.isdigit()), key=int)
    plain = [key for key in section if not key.isdigit()]
    if plain and (count > 1 or numbers):
        raise ConfigError(
            f"{max(count, len(numbers))} objectives: say which one, as in objective.1.{plain[0]}"
        )
    if numbers:
        size = max(count, int(numbers[-1]))
        return [dict(section_of(section, str(n), f"objective.{n}")) for n in range(1, size + 1)]
    return [dict(section) for _ in range(max(count, 1 if plain else 0))]


def default_directory(resolved: Resolved) -> Path:
    """Return `runs/GENERATOR-OBJECTIVES[-sweep-OPTION]`, where a run goes that names no place."""
    swept = ["sweep", resolved.sweep.option] if resolved.sweep else []
    names = [resolved.generator.name, *(part.name for part in resolved.objectives), *swept]
    return Path("runs") / "-".join(names)


def references(owner: Part, installed: Catalog, data: Registry) -> list[Reference]:
    """Resolve the second generators that a configuration names, and those that these name in turn.

    Only an objective may name a generator that names another one: a guide of a guide is refused.
    """
    found = []
    for key, text, needs in _named_generators(owner):
        part = resolve_generator(text, installed, data)
        inner = _named_generators(part)
        if inner and owner.entry.spec.kind == "generator":
            named = f"{inner[0][0]} of its own ({inner[0][1]!r})"
            raise ConfigError(f"generator {owner.name!r}: {key} {text!r} has a {named}; name one without")
        found.append(Reference(owner, key, text, needs, part))
        found += references(part, installed, data)
    return found


def _named_generators(owner: Part) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return key, name and needed capabilities of each second generator in a configuration."""
    marked = [
        (key, getattr(owner.config, key), mark.capabilities)
        for key, info in type(owner.config).model_fields.items()
        for mark in info.metadata
        if isinstance(mark, Needs)
    ]
    return [(key, text, needs) for key, text, needs in marked if text]


def resolve_generator(
    reference: str, installed: Catalog, data: Registry, layers: Layers | None = None
) -> Part:
    """Resolve a generator alone: a name, a preset, or the base of a run directory."""
    layers = layers or Layers({}, {})
    resolver = Resolver(installed, data, layers)
    directory, _ = split_reference(reference)
    if directory is None and "/" in reference:
        raise RunDirectoryError(f"no run at {shown(reference)}: there is no {RUN_FILE}")
    if directory is None:
        return resolver.one("generator", reference)
    path = directory / RUN_FILE
    file = read_toml(path)
    recorded = section_of(file, "generator", "generator")
    resolver.data = data.with_recorded(section_of(file, "preset", "preset"), str(path))
    with naming_packages(directory, installed):
        return resolver.one("generator", None, values=merge(recorded, layers.section("generator")))
