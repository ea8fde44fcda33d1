"""The contract: the hooks that a plugin may implement, any subset of them.

A plugin is a module named by an entry point of group `genplug`. Its hook implementations
carry `@genplug.hookimpl` and return specs: cheap, frozen descriptions that import nothing
heavy. Core calls every hook once per process, before it does anything else, and calls each
implementation on its own, so that one broken plugin never hides the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

    from genplug.specs import (
        DatasetSpec,
        DistanceSpec,
        EvaluatorSpec,
        ExtractorSpec,
        GeneratorSpec,
        ObjectiveSpec,
        Preset,
        Recipe,
        SamplerSpec,
    )

hookspec = pluggy.HookspecMarker("genplug")
hookimpl = pluggy.HookimplMarker("genplug")


@hookspec
def register_generators() -> Iterable[GeneratorSpec]:  # type: ignore[empty-body]
    """Return the sources of samples: networks, ensembles, folders of images."""


@hookspec
def register_samplers() -> Iterable[SamplerSpec]:  # type: ignore[empty-body]
    """Return ways to integrate a denoiser from noise (sigma_max) to a sample (sigma 0)."""


@hookspec
def register_extractors() -> Iterable[ExtractorSpec]:  # type: ignore[empty-body]
    """Return maps from uint8 images (or float32 points) to float32 features ND."""


@hookspec
def register_distances() -> Iterable[DistanceSpec]:  # type: ignore[empty-body]
    """Return distances between rows of two feature matrices; lower is closer."""


@hookspec
def register_objectives() -> Iterable[ObjectiveSpec]:  # type: ignore[empty-body]
    """Return functions from a generator to a better generator."""


@hookspec
def register_evaluators() -> Iterable[EvaluatorSpec]:  # type: ignore[empty-body]
    """Return judges: sample sets to named scores."""


@hookspec
def register_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """Return finite, indexable sets of (sample, label or None) with named splits."""


@hookspec
def register_presets() -> Iterable[Preset]:  # type: ignore[empty-body]
    """Return named configurations and weights, usually `genplug.presets_from(file)`."""


@hookspec
def register_recipes() -> Iterable[Recipe]:  # type: ignore[empty-body]
    """Return experiments for `genplug run --recipe NAME`, usually `genplug.recipes_from(folder)`."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add subcommands to `genplug`; called by the command line only. Import lazily inside them."""
