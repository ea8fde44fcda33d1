"""From what the user typed to what will run: layered configuration, components, matching.

Nothing here imports torch: `--plan`, errors and listings stay fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genplug.config import (
    Component,
    Config,
    GeneratorConfig,
    Kind,
    Needs,
    flatten,
    merge,
    nest,
    read_toml,
    validate,
)
from genplug.errors import CapabilityError, ConfigError, nearest
from genplug.presets import Registry, registry
from genplug.registry import Catalog, Entry, catalog
from genplug.settings import RunSettings, RuntimeSettings
from genplug.specs import GeneratorSpec, ObjectiveSpec, Preset, unmet

SECTIONS = ("run", "runtime", "generator", "objective", "dataset", "extractor", "evaluator")
_RESERVED = ("name", "preset", "weights")


@dataclass(frozen=True)
class Part:
    """One resolved component: what it is, its validated configuration, its preset if any."""

    entry: Entry
    config: Config
    preset: Preset | None = None
    weights: str | None = None

    @property
    def name(self) -> str:
        """The component's name."""
        return self.entry.spec.name

    def record(self) -> dict[str, Any]:
        """Return the part as it is written to `run.toml`."""
        head = {"name": self.name, "preset": self.preset.name if self.preset else "none", "weights": self.weights}
        return {key: value for key, value in head.items() if value is not None} | self.options()

    def options(self) -> dict[str, Any]:
        """Return all configuration values but those that are not set (TOML has no null)."""
        return self.config.model_dump(exclude_none=True)


@dataclass(frozen=True)
class Resolved:
    """Everything that a run is made of."""

    run: RunSettings
    runtime: RuntimeSettings
    generator: Part
    objectives: tuple[Part, ...]
    dataset: Part
    extractors: tuple[Part, ...]
    evaluators: tuple[Part, ...]
    catalog: Catalog = field(repr=False)
    registry: Registry = field(repr=False)

    def record(self) -> dict[str, Any]:
        """Return the configuration that replays this run, as written to `run.toml`."""
        objectives = [part.record() for part in self.objectives]
        return {
            "run": self.run.model_dump(),
            "generator": self.generator.record(),
            "objective": objectives,
            "dataset": self.dataset.record(),
            "extractor": {part.name: part.options() for part in self.extractors},
            "evaluator": {part.name: part.options() for part in self.evaluators},
        }


@dataclass(frozen=True)
class Layers:
    """Values by section with their origins, merged from the registry, a file and `--set`."""

    values: dict[str, Any]
    origins: dict[str, str]

    def section(self, name: str) -> Mapping[str, Any]:
        """Return one section as a mapping."""
        value = self.values.get(name, {})
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name!r} must be a section, not {value!r}")
        return value


def layer(file: Mapping[str, Any], sets: Sequence[tuple[str, Any]], file_name: str = "") -> Layers:
    """Merge a configuration file with `--set` assignments."""
    flat = dict(sets)
    file = {key: _numbered(value) if key == "objective" else value for key, value in file.items()}
    origins = {key: file_name for key, _ in flatten(file)} | {key: f"--set {key}" for key in flat}
    values = merge(file, nest(flat)) if flat else dict(file)
    for section in values:
        if section not in SECTIONS:
            where = origins.get(section) or next((o for k, o in origins.items() if k.startswith(f"{section}.")), "")
            hint = nearest(section, SECTIONS) or f" (known: {', '.join(SECTIONS)})"
            raise ConfigError(f"unknown section {section!r}{f' (from {where})' if where else ''}{hint}")
    return Layers(values, origins)


def _numbered(value: Any) -> Any:
    """Return `[[objective]]` tables as sections: one as itself, several by their number from 1."""
    if not isinstance(value, list):
        return value
    return value[0] if len(value) == 1 else {str(number): item for number, item in enumerate(value, 1)}


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
    catalog_: Catalog | None = None,
) -> Resolved:
    """Resolve a run; every mistake is one `GenplugError`, before anything heavy happens."""
    installed = catalog_ or catalog()
    data = registry(installed)
    layers = layer(config or {}, sets, config_name)
    defaults = data.defaults
    part = Resolver(installed, data, layers)
    generator_part = part.one("generator", generator, default=defaults.get("run", {}).get("generator"))
    dataset_default = (generator_part.preset and generator_part.preset.dataset) or defaults.get("run", {}).get("dataset")
    dataset_part = part.dataset(dataset, dataset_default)
    run_values = merge(_run_defaults(defaults, dataset_part.name), layers.section("run"))
    if extractors:
        run_values["extractors"] = list(extractors)
    if evaluators:
        run_values["evaluators"] = list(evaluators)
    settings = validate(RunSettings, run_values, "run", layers.origins)
    resolved = Resolved(
        run=settings,
        runtime=validate(RuntimeSettings, layers.section("runtime"), "runtime", layers.origins),
        generator=generator_part,
        objectives=part.objectives(objectives, generator_part),
        dataset=dataset_part,
        extractors=part.named("extractor", settings.extractors),
        evaluators=part.named("evaluator", settings.evaluators),
        catalog=installed,
        registry=data,
    )
    match(resolved)
    return resolved


def _run_defaults(defaults: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Return the registry's defaults of `[run]`, with those for one data set on top."""
    general = {k: v for k, v in defaults.get("run", {}).items() if k in RunSettings.model_fields}
    return merge(general, defaults.get("dataset", {}).get(dataset, {}))


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
        options = dict(self.layers.section(kind) if values is None else values)
        preset, named = options.pop("preset", None), options.pop("name", None)
        if flag and named and flag.partition(".")[0] != named:
            raise ConfigError(f"{kind} {flag!r} is asked for, but the configuration says {section or kind}.name = {named!r}")
        name = flag or named or (preset if preset and preset != "none" else default)
        if not isinstance(name, str) or not name:
            raise ConfigError(f"no {kind} given; name one of: {', '.join(self.catalog.names(kind))}")
        if "." in name:
            preset = name
        return self._part(kind, name.partition(".")[0], options, section or kind, preset or recipe)

    def _part(self, kind: str, name: str, values: dict[str, Any], section: str, preset_name: str) -> Part:
        entry = self.catalog.get(kind, name)
        preset_name = preset_name or self.data.defaults.get(kind, {}).get(name, {}).get("preset", "none")
        preset = None if preset_name == "none" else self.data.preset(preset_name)
        if preset is not None and preset.family != name:
            raise ConfigError(f"preset {preset.name!r} is not one of {kind} {name!r}")
        weights = values.pop("weights", None)
        model = entry.config_model()
        merged = merge(nest(dict(flatten(preset.values))) if preset else {}, values)
        self._check_unset(preset, values, section)
        config = validate(model, merged, section, self.layers.origins)
        return Part(entry, self._components(config, section), preset, weights)

    def _check_unset(self, preset: Preset | None, values: Mapping[str, Any], section: str) -> None:
        """A value that the preset's source does not give must come from the user."""
        given = {key for key, _ in flatten(values)}
        missing = [key for key in (preset.unset if preset else ()) if key not in given]
        if missing and preset:
            keys = ", ".join(f"{section}.{key}" for key in missing)
            raise ConfigError(f"preset {preset.name!r}: its source gives no value for {keys}; set it with --set")

    def _components(self, config: Config, section: str) -> Config:
        """Validate the components named inside a configuration against what is installed."""
        changes: dict[str, Any] = {}
        for name, info in type(config).model_fields.items():
            value = getattr(config, name)
            for mark in info.metadata:
                if isinstance(mark, Kind) and isinstance(value, Component):
                    entry = self.catalog.get(mark.kind, value.name)
                    inner = validate(entry.config_model(), value.options, f"{section}.{name}", self.layers.origins)
                    changes[name] = Component(name=value.name, **inner.model_dump())
        return config.model_copy(update=changes) if changes else config

    def dataset(self, flag: str | None, default: str | None) -> Part:
        """Resolve the data set; an existing path is the data set `files`."""
        if flag and flag not in self.catalog.entries["dataset"] and ("/" in flag or Path(flag).exists()):
            return self.one("dataset", "files", values={"path": flag} | dict(self.layers.section("dataset")))
        return self.one("dataset", flag, default=default)

    def named(self, kind: str, names: Sequence[str]) -> tuple[Part, ...]:
        """Resolve components that a run uses several of; options are in `[KIND.NAME]`."""
        sections = self.layers.section(kind)
        for name in sections:
            self.catalog.get(kind, name)
        return tuple(self._part(kind, name, dict(sections.get(name, {})), f"{kind}.{name}", "") for name in names)

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


def _items(section: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the options of each objective: `objective.KEY` for one, `objective.N.KEY` for several."""
    numbers = sorted((key for key in section if key.isdigit()), key=int)
    plain = [key for key in section if not key.isdigit()]
    if plain and (count > 1 or numbers):
        raise ConfigError(f"{max(count, len(numbers))} objectives: say which one, as in objective.1.{plain[0]}")
    if numbers:
        size = max(count, int(numbers[-1]))
        return [dict(section.get(str(index + 1), {})) for index in range(size)]
    return [dict(section) for _ in range(max(count, 1 if plain else 0))]


def default_directory(resolved: Resolved) -> Path:
    """Return `runs/GENERATOR-OBJECTIVES`, where a run goes that names no place."""
    return Path("runs") / "-".join([resolved.generator.name, *(part.name for part in resolved.objectives)])


def provided(part: Part) -> frozenset[str]:
    """Return what a configured generator provides."""
    spec = part.entry.spec
    assert isinstance(spec, GeneratorSpec)
    return part.config.provides() if isinstance(part.config, GeneratorConfig) else frozenset(spec.provides)


def match(resolved: Resolved) -> None:
    """Check that the generator, and what each objective makes of it, meets the next one's needs."""
    has, source = provided(resolved.generator), f"generator {resolved.generator.name!r}"
    for part in resolved.objectives:
        spec = part.entry.spec
        assert isinstance(spec, ObjectiveSpec)
        if unmet(spec.needs, has):
            raise CapabilityError(_mismatch(spec, has, source, resolved.catalog))
        _check_references(part, resolved)
        has = has - set(spec.removes) | set(spec.adds)
        source = f"the result of {spec.name!r}"
    for part in (*resolved.objectives, *resolved.evaluators, *resolved.extractors):
        modality = part.entry.spec.modality
        wanted = resolved.generator.entry.spec.modality
        if "any" not in (modality, wanted) and modality != wanted:
            kind = part.entry.spec.kind
            raise CapabilityError(
                f"{kind} {part.name!r} takes {modality}; generator {resolved.generator.name!r} makes {wanted}"
            )


def _mismatch(spec: ObjectiveSpec, has: frozenset[str], source: str, installed: Catalog) -> str:
    fitting = [
        entry.spec.name
        for entry in installed.entries["generator"].values()
        if isinstance(entry.spec, GeneratorSpec) and not unmet(spec.needs, frozenset(entry.spec.provides))
    ]
    return (
        f"objective {spec.name!r} needs {', '.join(spec.needs)}; {source} provides "
        f"{', '.join(sorted(has)) or 'nothing'}. Generators that fit: {', '.join(sorted(fitting)) or 'none'}."
    )


def _check_references(part: Part, resolved: Resolved) -> None:
    """Check the second generators that a configuration names: capabilities, x shape and codec."""
    for name, info in type(part.config).model_fields.items():
        for mark in info.metadata:
            reference = getattr(part.config, name)
            if not isinstance(mark, Needs) or not reference:
                continue
            other = resolve_generator(reference, resolved.catalog, resolved.registry)
            has = provided(other)
            if missing := unmet(mark.capabilities, has):
                raise CapabilityError(
                    f"{part.entry.spec.kind} {part.name!r}: {name} {reference!r} lacks {', '.join(missing)}"
                )
            shapes = [p.config.x_shape() for p in (resolved.generator, other) if isinstance(p.config, GeneratorConfig)]
            if len(shapes) == 2 and None not in shapes and shapes[0] != shapes[1]:
                raise CapabilityError(
                    f"{part.entry.spec.kind} {part.name!r}: {name} {reference!r} has x of shape {shapes[1]}, "
                    f"generator {resolved.generator.name!r} of {shapes[0]}"
                )


def resolve_generator(reference: str, installed: Catalog, data: Registry, layers: Layers | None = None) -> Part:
    """Resolve a generator alone: a name, a preset, or the base of a run directory."""
    for directory in (Path(reference), Path(reference.rpartition(":")[0])):
        if reference and (directory / "run.toml").is_file():
            values = read_toml(directory / "run.toml")["generator"]
            return Resolver(installed, data, layers or Layers({}, {})).one("generator", None, values=values)
    return Resolver(installed, data, layers or Layers({}, {})).one("generator", reference)
