"""Names and shapes of a generator's tensors, found without allocating them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from genplug.guided import own_weights
from genplug.loading import light_run
from genplug.presets import registry
from genplug.protocols import Generator
from genplug.resolving import Layers, resolve_generator
from genplug.runtime import Run


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


def shapes(reference: str, layers: Layers | None = None) -> dict[str, tuple[int, ...]]:
    """Return the tensors that a weights file of a generator or preset must have, without its guide's."""
    light = light_run()
    values = {field.name: getattr(light, field.name) for field in dataclasses.fields(light)}
    generator = build_weightless(Weightless(**values), reference, layers)
    state = own_weights(generator.state_dict())
    return {name: tuple(value.shape) for name, value in state.items()}


def build_weightless(run: Run, reference: str, layers: Layers | None = None) -> Generator:
    """Build a generator whose tensors have no memory."""
    part = resolve_generator(reference, run.catalog, registry(run.catalog), layers)
    with torch.device("meta"):
        generator: Generator = part.config.build(run)
    return generator
