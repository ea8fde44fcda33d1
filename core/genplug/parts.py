"""What resolving gives: components with their validated configurations, and the run made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genplug.config import Config
from genplug.presets import Registry
from genplug.registry import Catalog, Entry
from genplug.settings import RunSettings, RuntimeSettings
from genplug.specs import Preset
from genplug.sweeps import Sweep


@dataclass(frozen=True)
class Part:
    """One resolved component: what it is, its validated configuration, its preset if any.

    `label` is how an extractor was asked for, if that says more than its name.
    """

    entry: Entry
    config: Config
    preset: Preset | None = None
    weights: str | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The component's name."""
        return self.entry.spec.name

    @property
    def reference(self) -> str:
        """What an extractor is called by: `timm:resnet50@cls`; the name of any other component."""
        return self.label or self.name

    @property
    def head(self) -> str:
        """The reference without the output of an extractor."""
        return self.reference.partition("@")[0]

    def record(self) -> dict[str, Any]:
        """Return the part as it is written to `run.toml`."""
        head = {
            "name": self.name,
            "preset": self.preset.name if self.preset else "none",
            "weights": self.weights,
        }
        return {key: value for key, value in head.items() if value is not None} | self.options()

    def options(self) -> dict[str, Any]:
        """Return all configuration values but those that are not set (TOML has no null)."""
        return self.config.model_dump(exclude_none=True)


@dataclass(frozen=True)
class Reference:
    """A second generator: who names it under which key, and what it must provide."""

    owner: Part
    key: str
    text: str
    needs: tuple[str, ...]
    part: Part


@dataclass(frozen=True)
class Resolved:
    """Everything that a run is made of.

    `extractors` judge, `objective_extractors` are the others that objectives look through. With a sweep,
    `swept` holds the chain of objectives of each value by its model's name, and
    `objectives` is the first of them.
    """

    run: RunSettings
    runtime: RuntimeSettings
    generator: Part
    objectives: tuple[Part, ...]
    dataset: Part
    extractors: tuple[Part, ...]
    objective_extractors: tuple[Part, ...]
    evaluators: tuple[Part, ...]
    references: tuple[Reference, ...]
    catalog: Catalog = field(repr=False)
    registry: Registry = field(repr=False)
    sweep: Sweep | None = None
    swept: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)

    @property
    def variants(self) -> Mapping[str, tuple[Part, ...]]:
        """The chains of objectives: one, or one for each value of a sweep."""
        return self.swept or {"": self.objectives}

    @property
    def all_extractors(self) -> tuple[Part, ...]:
        """The extractors that judge, and those that objectives name besides."""
        return (*self.extractors, *self.objective_extractors)

    def record(self) -> dict[str, Any]:
        """Return the configuration that replays this run, as written to `run.toml`."""
        objectives = [part.record() for part in self.objectives]
        seconds = [reference.part for reference in self.references]
        parts = (self.generator, *self.objectives, *seconds, *self.all_extractors)
        named = [part.preset for part in parts if part.preset]
        return {
            "run": self.run.model_dump(),
            "generator": self.generator.record(),
            "objective": objectives,
            **({"sweep": self.sweep.model_dump()} if self.sweep else {}),
            "dataset": self.dataset.record(),
            "extractor": {part.head: _sourced(part) for part in self.all_extractors},
            "evaluator": {part.name: part.options() for part in self.evaluators},
            "preset": {preset.name: _kept(preset) for preset in named},
        }


def _sourced(part: Part) -> dict[str, Any]:
    """Return an extractor's options, and its weights and preset if it has any."""
    known = {"preset": part.preset and part.preset.name, "weights": part.weights}
    return {key: value for key, value in known.items() if value is not None} | part.options()


def _kept(preset: Preset) -> dict[str, Any]:
    """Return what a run needs of a preset, should the preset leave the registry: its weights and values."""
    keys = ("kind", "values", "address", "format", "part", "prefix", "sha256")
    values = {key: getattr(preset, key) for key in keys}
    return {key: value for key, value in values.items() if value not in (None, "", {})}
