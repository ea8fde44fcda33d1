"""Names and shapes of a network's tensors, found without allocating them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genplug.extractors import adapted, parse
from genplug.guided import own_weights
from genplug.layers import Layers
from genplug.loading import light_run
from genplug.presets import registry
from genplug.protocols import Generator
from genplug.registry import Catalog
from genplug.resolving import Resolver, resolve_generator
from genplug.runtime import Run

Shapes = dict[str, tuple[int, ...]]


@dataclass
class Weightless(Run):
    """A run on torch's meta device, whose second generators have no weights either."""

    @property
    def device(self) -> torch.device:
        """The device of tensors with a shape alone."""
        return torch.device("meta")

    def generator(self, reference: str) -> Generator:
        """Build a second generator without loading it."""
        return build_weightless(self, reference)


@dataclass(frozen=True)
class Expected:
    """The tensors that a weights file of a network must have, and how a published file becomes one.

    `adapt` renames and turns the tensors of a published file; None if they are taken as they are.
    """

    what: str
    shapes: Shapes
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None


def expected(reference: str, layers: Layers | None = None) -> Expected:
    """Return what the weights of a generator, an extractor or one of their presets must be."""
    light = light_run()
    values = {field.name: getattr(light, field.name) for field in dataclasses.fields(light)}
    run = Weightless(**values)
    if is_extractor(light.catalog, reference):
        extractor = _extractor(run, reference, layers)
        shapes = _shapes(extractor.state_dict())
        return Expected(f"extractor {reference!r}", shapes, lambda tensors: adapted(tensors, extractor))
    state = own_weights(build_weightless(run, reference, layers).state_dict())
    return Expected(f"generator {reference!r}", _shapes(state))


def shapes(reference: str, layers: Layers | None = None) -> Shapes:
    """Return names and shapes alone."""
    return expected(reference, layers).shapes


def is_extractor(catalog: Catalog, reference: str) -> bool:
    """Return whether a reference is that of an extractor; a generator of the same name comes first."""
    family = parse(reference).family
    return family in catalog.entries["extractor"] and family not in catalog.entries["generator"]


def _shapes(state: dict[str, Any]) -> Shapes:
    return {name: tuple(value.shape) for name, value in state.items()}


def _extractor(run: Run, reference: str, layers: Layers | None) -> Any:
    resolver = Resolver(run.catalog, registry(run.catalog), layers or Layers({}, {}))
    (part,) = resolver.extractors([reference])
    with torch.device("meta"):
        extractor = part.config.build(run)
    return extractor if hasattr(extractor, "state_dict") else _Without()


class _Without:
    """An extractor without weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


def build_weightless(run: Run, reference: str, layers: Layers | None = None) -> Generator:
    """Build a generator whose tensors have no memory."""
    part = resolve_generator(reference, run.catalog, registry(run.catalog), layers)
    with torch.device("meta"):
        generator: Generator = part.config.build(run)
    return generator
