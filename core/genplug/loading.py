"""`genplug.load`: a ready generator from a name, a preset or a run directory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genplug.absent import naming_packages
from genplug.chains import path_to, step_of, steps
from genplug.checkpoints import digest, load_weights
from genplug.config import flatten, read_toml
from genplug.errors import RunDirectoryError
from genplug.layers import layer, section_of
from genplug.matching import match_references
from genplug.parts import Part
from genplug.paths import RUN_FILE as RUN_FILE
from genplug.paths import split_reference
from genplug.presets import registry
from genplug.protocols import Generator
from genplug.resolving import references, resolve, resolve_generator
from genplug.runtime import Run, make_accelerator
from genplug.settings import RuntimeSettings
from genplug.weights import locate, require_of


def load(reference: str, **options: Any) -> Generator:
    """Load a generator.

    `reference` is a component (`edm2`), a preset (`edm2.img512-xs`) or a model of a run (`runs/x`,
    `runs/x:base`, `runs/x:improved`, `runs/x:control`, `runs/x:1-ddo`, `runs/x:scale=1.5`). Options
    are configuration values by dotted key with `__` for dots: `load("edm2", sampler__steps=18)`.
    """
    sets = {key.replace("__", "."): value for key, value in options.items()}
    return load_in(light_run(), reference, sets)


def load_in(run: Run, reference: str, options: Mapping[str, Any] | None = None) -> Generator:
    """Load a generator within a run (its device and its installed components)."""
    directory, role = split_reference(reference)
    if directory is not None:
        return restore(run, directory, role, options or {})
    layers = layer({}, [(f"generator.{key}", value) for key, value in flatten(dict(options or {}))])
    data = registry(run.catalog)
    part = resolve_generator(reference, run.catalog, data, layers)
    seconds = references(part, run.catalog, data)
    match_references(part, seconds)
    require_of(part, seconds)
    return build(run, part)


def build(run: Run, part: Part, replaced: bool = False) -> Generator:
    """Build a resolved generator and load its weights; `replaced` says that others will follow."""
    generator: Generator = part.config.build(run)
    path = locate(part.preset, part.weights)
    if path is not None:
        generator.load_state_dict(load_weights(path))
    elif "trainable" in generator.provides and not replaced:
        run.log.warn(f"generator {part.name!r} has no weights: it starts from random ones")
    return generator


def identity(part: Part, generator: Generator, package_version: str) -> dict[str, Any]:
    """Return what a built generator's samples depend on."""
    return {"generator": part.record(), "version": package_version, "weights": digest(generator.state_dict())}


def step_directory(directory: Path, name: str) -> Path:
    """Return where the result of a step is saved."""
    return directory / "generator" / name


def restore(run: Run, directory: Path, role: str, options: Mapping[str, Any]) -> Generator:
    """Build the base of a run and fold `restore` over its objectives, up to a model or step."""
    sets = [(f"generator.{key}", value) for key, value in flatten(dict(options))]
    recorded = read_toml(directory / RUN_FILE)
    judges = ("extractor", "evaluator")  # not needed, perhaps not installed here
    recorded = {section: values for section, values in recorded.items() if section not in judges}
    recorded["run"] = {**section_of(recorded, "run", "run"), "extractors": [], "evaluators": []}
    with naming_packages(directory, run.catalog):
        resolved = resolve(
            config=recorded, config_name=str(directory / RUN_FILE), sets=sets, catalog_=run.catalog
        )
    path = path_to(steps(resolved), step_of(resolved, role))
    seeded = run.settings.model_copy(update={"seed": resolved.run.seed})  # of weights that were never loaded
    run = dataclasses.replace(run, settings=seeded)
    generator = build(run, resolved.generator, replaced=bool(path))
    for step in path:
        saved = step_directory(directory, step.name)
        if not saved.is_dir():
            raise RunDirectoryError(
                f"{directory} is not finished: it has no {saved.name}; run it again to continue"
            )
        generator = step.part.config.build(run).restore(generator, saved, run)
    return generator


@functools.cache
def light_run() -> Run:
    """Return a run that stores nothing, for loading and evaluating from Python."""
    from genplug.settings import RunSettings

    settings = RunSettings()
    return Run(make_accelerator(settings, RuntimeSettings()), settings)
