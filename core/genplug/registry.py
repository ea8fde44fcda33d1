"""The code half of the registry: entry points -> pluggy hooks -> specs, one look-up by kind and name.

Discovery imports each plugin's light top module and nothing else. A plugin that fails to import
or to answer a hook is kept in `Catalog.broken` with its error and hides no other. Two
components of one kind with the same name are both withheld, and asking for them names both
packages: picking one silently would make results depend on what happens to be installed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pluggy

from genplug import hookspecs
from genplug.errors import GenplugError, unknown
from genplug.specs import CAPABILITIES, Preset, Spec

GROUP = "genplug"
KINDS: Mapping[str, str] = {
    "generator": "register_generators",
    "sampler": "register_samplers",
    "extractor": "register_extractors",
    "distance": "register_distances",
    "objective": "register_objectives",
    "evaluator": "register_evaluators",
    "dataset": "register_datasets",
}


@dataclass(frozen=True)
class Package:
    """The installed distribution that a plugin comes from."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Entry:
    """A spec with the package that registered it."""

    spec: Spec
    package: Package

    def config_model(self) -> Any:
        """Import and return the component's pydantic model."""
        module, _, attribute = self.spec.config.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise GenplugError(
                f"{self.spec.kind} {self.spec.name!r} of {self.package} is broken: "
                f"config {self.spec.config!r} does not import ({one_line(error)})"
            ) from error


@dataclass(frozen=True)
class Broken:
    """A plugin, or one hook of it, that could not be used, and why."""

    plugin: str
    package: Package
    error: str


@dataclass
class Catalog:
    """All that is installed: components by kind and name, presets, and what is broken."""

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    clashes: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)
    preset_sources: list[tuple[Package, tuple[Preset, ...]]] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: new_manager())

    def get(self, kind: str, name: str) -> Entry:
        """Return the component, or raise with the nearest name and all installed ones."""
        if clash := self.clashes.get((kind, name)):
            packages = " and ".join(str(entry.package) for entry in clash)
            raise GenplugError(f"{kind} {name!r} is registered by {packages}; uninstall one of them")
        if name not in self.entries[kind]:
            error = unknown(kind, name, self.entries[kind])
            ill = ", ".join(sorted({broken.plugin for broken in self.broken}))
            raise type(error)(f"{error}; broken plugins: {ill} (see 'genplug plugins')") if ill else error
        return self.entries[kind][name]

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind, sorted."""
        return sorted(self.entries[kind])

    def __iter__(self) -> Iterator[Entry]:
        for kind in KINDS:
            for name in self.names(kind):
                yield self.entries[kind][name]

    def add(self, spec: Spec, package: Package) -> None:
        """Register one spec; a second one of the same kind and name withholds both."""
        entry = Entry(spec, package)
        key = (spec.kind, spec.name)
        if key in self.clashes:
            self.clashes[key].append(entry)
        elif spec.name in self.entries[spec.kind]:
            self.clashes[key] = [self.entries[spec.kind].pop(spec.name), entry]
        else:
            self.entries[spec.kind][spec.name] = entry


def new_manager() -> pluggy.PluginManager:
    """Return a plugin manager that knows genplug's hooks."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


@functools.cache
def catalog() -> Catalog:
    """Return what is installed in this Python; discovered once per process."""
    return discover(entry_points())


def entry_points() -> Iterable[tuple[metadata.EntryPoint, Package]]:
    """Yield genplug's entry points with their packages, in a fixed order."""
    found: dict[tuple[str, str], tuple[metadata.EntryPoint, Package]] = {}
    for point in metadata.entry_points(group=GROUP):
        head = point.dist.metadata if point.dist else {"Name": "unknown", "Version": "?"}
        package = Package(head["Name"], head["Version"])
        found.setdefault((package.name, point.name), (point, package))
    return [found[key] for key in sorted(found)]


def discover(points: Iterable[tuple[metadata.EntryPoint, Package]]) -> Catalog:
    """Load plugins and collect what they register."""
    result = Catalog()
    for point, package in points:
        try:
            plugin = point.load()
            result.manager.register(plugin, name=f"{package.name}:{point.name}")
            _check_hooks(plugin)
        except (Exception, SystemExit) as error:
            result.broken.append(Broken(point.name, package, one_line(error)))
            continue
        _collect(result, plugin, point.name, package)
    return result


def _collect(result: Catalog, plugin: object, plugin_name: str, package: Package) -> None:
    """Call each hook of one plugin on its own and add what it returns."""
    for hook in [*KINDS.values(), "register_presets"]:
        for implementation in getattr(result.manager.hook, hook).get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            try:
                specs = tuple(implementation.function())
                if hook == "register_presets":
                    _check_presets(specs)
                    result.preset_sources.append((package, specs))
                    continue
                for spec in specs:
                    _check_spec(spec, hook)
                for spec in specs:
                    result.add(spec, package)
            except (Exception, SystemExit) as error:
                result.broken.append(Broken(plugin_name, package, f"{hook}: {one_line(error)}"))


def _check_hooks(plugin: object) -> None:
    """Refuse a plugin with a hook that this version does not have: it expects another contract."""
    for name in dir(plugin):
        value = getattr(plugin, name, None)
        if callable(value) and hasattr(value, "genplug_impl") and not hasattr(hookspecs, name):
            raise GenplugError(
                f"implements the unknown hook {name!r}: written for another version of genplug"
            )


def _check_spec(spec: object, hook: str) -> None:
    """Refuse what is not a spec of the hook's kind or claims an unknown capability."""
    if not isinstance(spec, Spec) or KINDS.get(spec.kind) != hook:
        raise TypeError(f"returned {spec!r}, which is not a spec of this hook")
    words = [*getattr(spec, "provides", ()), *getattr(spec, "adds", ()), *getattr(spec, "removes", ())]
    words += [word for need in getattr(spec, "needs", ()) for word in need.split("|")]
    for word in words:
        if word not in CAPABILITIES:
            raise unknown("capability", word, CAPABILITIES)


def _check_presets(presets: Iterable[object]) -> None:
    for preset in presets:
        if not isinstance(preset, Preset):
            raise TypeError(f"returned {preset!r}, which is not a preset")


def one_line(error: BaseException) -> str:
    """Return an exception as one line of text."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
