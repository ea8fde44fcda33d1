"""The code half of the registry: entry points -> pluggy hooks -> specs, one look-up by kind and name.

Discovery imports each plugin's light top module and nothing else. A plugin that fails to import
or to answer a hook is kept in `Catalog.broken` with its error and hides no other. Two
components of one kind with the same name are both withheld, and asking for them names both
packages: picking one silently would make results depend on what happens to be installed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pluggy

from genplug import hookspecs
from genplug.admission import OTHER_VERSION, check_hooks, check_presets, check_recipes, check_spec
from genplug.errors import GenplugError, Stopped, shown, unknown
from genplug.specs import BadPreset, Preset, Recipe, Spec

GROUP = "genplug"
HEAVY = frozenset({"torch", "tensorflow", "jax"})
SLOW = 0.5  # seconds that the import of a plugin may take unmentioned
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
        from genplug.config import Config

        module, _, attribute = self.spec.config.partition(":")
        model: Any = None
        with confined() as failure:
            model = getattr(importlib.import_module(module), attribute)
        reason = f"does not import ({failure[0]})" if failure else "is no genplug.config.Config"
        if failure or not (isinstance(model, type) and issubclass(model, Config)):
            raise GenplugError(
                f"{self.spec.kind} {self.spec.name!r} of {self.package} is broken: "
                f"config {self.spec.config!r} {reason}"
            )
        return model


@dataclass(frozen=True)
class Experiment:
    """A recipe with the package that registered it."""

    recipe: Recipe
    package: Package


@dataclass(frozen=True)
class Broken:
    """A plugin, or one hook of it, that could not be used, and why."""

    plugin: str
    package: Package
    error: str


@dataclass(frozen=True)
class Note:
    """What a plugin does that works but should not be so, such as a slow import."""

    plugin: str
    package: Package
    text: str


@dataclass
class Catalog:
    """All that is installed: components by kind and name, presets, recipes, and what is broken."""

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    clashes: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)
    preset_sources: list[tuple[Package, tuple[Preset, ...]]] = field(default_factory=list)
    experiments: list[Experiment] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: new_manager())

    def get(self, kind: str, name: str) -> Entry:
        """Return the component, or raise with the nearest name and all installed ones."""
        if clash := self.clashes.get((kind, name)):
            packages = " and ".join(str(entry.package) for entry in clash)
            raise GenplugError(f"{kind} {name!r} is registered by {packages}; uninstall one of them")
        if name not in self.entries[kind]:
            error = unknown(kind, name, self.entries[kind])
            if "did you mean" not in str(error) and (speaking := self._speaking_of(kind, name)):
                error = type(error)(f"no {kind} named {shown(name)}; {' and '.join(speaking)} may be meant")
            ill = ", ".join(sorted({broken.plugin for broken in self.broken}))
            raise type(error)(f"{error}; broken plugins: {ill} (see 'genplug plugins')") if ill else error
        return self.entries[kind][name]

    def _speaking_of(self, kind: str, word: str) -> list[str]:
        """Return the components that have a score of this name, or this word in their summary."""
        specs = [entry.spec for entry in self.entries[kind].values()]
        return [
            repr(spec.name)
            for spec in specs
            if word in getattr(spec, "scores", ())
            or word.lower() in re.findall(r"[\w-]+", spec.summary.lower())
        ]

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind, sorted."""
        return sorted(self.entries[kind])

    def recipe(self, name: str) -> Experiment:
        """Return a recipe, or raise with the nearest name."""
        found = [one for one in self.experiments if one.recipe.name == name]
        if not found:
            raise unknown("recipe", name, {one.recipe.name for one in self.experiments})
        if len(found) > 1:
            packages = " and ".join(str(one.package) for one in found)
            raise GenplugError(f"recipe {name!r} is registered by {packages}; uninstall one of them")
        return found[0]

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
    """Return genplug's entry points with their packages, in a fixed order."""
    found: dict[tuple[str, str], tuple[metadata.EntryPoint, Package]] = {}
    for point in metadata.entry_points(group=GROUP):
        package = _package_of(point)
        found.setdefault((package.name, point.name), (point, package))
    return [found[key] for key in sorted(found)]


def _package_of(point: metadata.EntryPoint) -> Package:
    """Return an entry point's distribution, whose metadata may lack a name or be missing."""
    try:
        assert point.dist is not None
        head = point.dist.metadata
        return Package(str(head["Name"] or "unknown"), str(head["Version"] or "?"))
    except Exception:
        return Package("unknown", "?")


def discover(points: Iterable[tuple[metadata.EntryPoint, Package]]) -> Catalog:
    """Load plugins and collect what they register."""
    result = Catalog()
    for point, package in points:
        with confined() as failure:
            started, before = time.perf_counter(), _heavy()
            plugin = point.load()
            result.notes += _notes(point.name, package, time.perf_counter() - started, _heavy() - before)
            check_hooks(plugin)
            _register(result.manager, plugin, f"{package.name}:{point.name}")
            _collect(result, plugin, point.name, package)
        if failure:
            result.broken.append(Broken(point.name, package, failure[0]))
    return result


@contextmanager
def confined() -> Iterator[list[str]]:
    """Run code of a plugin: its error is kept as a line of text, what it prints goes to stderr."""
    failure: list[str] = []
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield failure
        except (KeyboardInterrupt, Stopped):
            raise
        except BaseException as error:  # a plugin may also call `sys.exit`
            failure.append(one_line(error))


def _heavy() -> frozenset[str]:
    return HEAVY & sys.modules.keys()


def _notes(plugin: str, package: Package, seconds: float, heavy: Set[str]) -> Iterable[Note]:
    """Say what makes every command slow: a plugin's top module should hold specs alone."""
    if heavy:
        yield Note(plugin, package, f"imports {', '.join(sorted(heavy))} when listed ({seconds:.1f} s)")
    elif seconds > SLOW:
        yield Note(plugin, package, f"takes {seconds:.1f} s to import when listed")


def _register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Register a plugin wholly or not at all."""
    try:
        manager.register(plugin, name=name)
    except pluggy.PluginValidationError as error:
        manager.unregister(name=name)
        last = str(error).splitlines()[-1]
        raise GenplugError(f"a hook takes other arguments ({last}): {OTHER_VERSION}") from None


def _collect(result: Catalog, plugin: object, plugin_name: str, package: Package) -> None:
    """Call each hook of one plugin on its own and add what it returns."""
    hooks = {hook: kind for kind, hook in KINDS.items()}
    hooks |= {"register_presets": "preset", "register_recipes": "recipe"}
    for hook, kind in hooks.items():
        for implementation in getattr(result.manager.hook, hook).get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            with confined() as failure:
                _accept(result, tuple(implementation.function()), kind, package, plugin_name)
            if failure:
                result.broken.append(Broken(plugin_name, package, f"{hook}: {_with_cause(failure[0])}"))


def _accept(result: Catalog, specs: tuple[Any, ...], kind: str, package: Package, plugin: str) -> None:
    """Add all that one hook returned, or nothing of it; a bad entry of a file is left out alone."""
    if kind == "recipe":
        check_recipes(specs)
        result.experiments += [Experiment(recipe, package) for recipe in specs if not recipe.problem]
        bad_files = [recipe.problem for recipe in specs if recipe.problem]
        result.broken += [Broken(plugin, package, f"register_recipes: {problem}") for problem in bad_files]
        return
    if kind == "preset":
        check_presets(specs)
        result.preset_sources.append((package, tuple(s for s in specs if not isinstance(s, BadPreset))))
        bad = [spec for spec in specs if isinstance(spec, BadPreset)]
        result.broken += [Broken(plugin, package, f"register_presets: {spec.problem}") for spec in bad]
        return
    for spec in specs:
        check_spec(spec, kind)
    for spec in specs:
        result.add(spec, package)


def _with_cause(error: str) -> str:
    """Add what is behind a spec that could not even be made."""
    outdated = "__init__() " in error and error.startswith("TypeError")
    return f"{error}: {OTHER_VERSION}" if outdated else error


def one_line(error: BaseException) -> str:
    """Return an exception as one line of text."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "its message cannot be told"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
