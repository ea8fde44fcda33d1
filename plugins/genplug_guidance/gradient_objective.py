"""What the three objectives by gradient share: a classifier becomes a push, which is saved and restored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from genplug.denoiser import DenoiserGenerator
from genplug.errors import CapabilityError
from genplug.guided import GuidedDenoiser, pushed
from genplug.pushes import Strength
from genplug.runtime import Run
from genplug_guidance.classifier import (
    Blueprint,
    Potential,
    read_facts,
    save_classifier,
    saved_network,
)
from genplug_guidance.gradient import GradientPush
from genplug_guidance.gradient_config import ClassifierConfig, NetworkConfig
from genplug_guidance.strength import strength_of


class GradientObjective(ABC):
    """An objective whose result is a generator pushed along the gradient of a classifier.

    `facts` are what `restore` needs beside the classifier's weights, as plain data.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        self.config = config

    @abstractmethod
    def prepare(self, generator: Any, run: Run) -> tuple[Potential, dict[str, Any]]:
        """Return the potential of a trained or given classifier, and the facts about it."""

    @abstractmethod
    def potential(self, facts: Mapping[str, Any], directory: Path, run: Run) -> Potential:
        """Return the potential that was saved in a directory."""

    def apply(self, generator: Any, run: Run) -> DenoiserGenerator:
        """Return the guided generator."""
        return self._guided(_checked(generator), *self.prepare(generator, run))

    def control(self, generator: Any, run: Run) -> DenoiserGenerator:
        """Return the generator pushed as far, by the same classifier, in no particular direction."""
        potential, facts = self.prepare(generator, run)
        return self._guided(_checked(generator), potential, {**facts, "scrambled": True})

    def save(self, generator: Any, directory: Path) -> None:
        """Write the classifier and the facts."""
        push = push_of(generator)
        save_classifier(directory, push.potential, push.facts)

    def restore(self, base: Any, directory: Path, run: Run) -> DenoiserGenerator:
        """Return the base guided as it was saved."""
        facts = read_facts(directory)
        return self._guided(base, self.potential(facts, directory, run), facts)

    def strength(self, generator: Any, facts: Mapping[str, Any]) -> Strength:
        """Return how strong guidance is at each noise level."""
        return strength_of(self.config, generator)

    def ready(self, generator: DenoiserGenerator, facts: Mapping[str, Any]) -> DenoiserGenerator:
        """Return the generator that is pushed: the given one, or a branch of it."""
        return generator

    def _guided(
        self, generator: DenoiserGenerator, potential: Potential, facts: Mapping[str, Any]
    ) -> DenoiserGenerator:
        strength = self.strength(generator, facts)
        push = GradientPush(potential, strength, bool(facts.get("scrambled")), dict(facts))
        return pushed(self.ready(generator, facts), push)


def push_of(generator: Any) -> GradientPush:
    """Return the last push of a guided generator, which is along a gradient."""
    push = last_push(generator)
    if push is None:
        raise CapabilityError("this generator is not guided by a gradient")
    return push


def last_push(generator: Any) -> GradientPush | None:
    """Return the last push along a gradient of a generator; None if it has none."""
    return next(reversed(gradient_pushes(generator)), None)


def gradient_pushes(generator: Any) -> list[GradientPush]:
    """Return a generator's pushes along gradients, in order."""
    denoiser = getattr(generator, "denoiser", None)
    pushes = denoiser.pushes if isinstance(denoiser, GuidedDenoiser) else ()
    return [push for push in pushes if isinstance(push, GradientPush)]


def blueprint_facts(blueprint: Blueprint) -> dict[str, Any]:
    """Return a blueprint as plain data."""
    network = blueprint.network.model_dump()
    return {"network": network, "x_shape": list(blueprint.x_shape), "logits": blueprint.logits}


def blueprint_of(facts: Mapping[str, Any]) -> Blueprint:
    """Return the blueprint that `blueprint_facts` told."""
    return Blueprint(NetworkConfig.model_validate(facts["network"]), tuple(facts["x_shape"]), facts["logits"])


def network_of(facts: Mapping[str, Any], directory: Path, run: Run) -> Any:
    """Return the saved network of a saved classifier."""
    return saved_network(directory, blueprint_of(facts["blueprint"]), run.device)


def without(generator: DenoiserGenerator, push: GradientPush) -> DenoiserGenerator:
    """Return a guided generator without one of its pushes."""
    denoiser = generator.denoiser
    assert isinstance(denoiser, GuidedDenoiser)
    others = tuple(other for other in denoiser.pushes if other is not push)
    return generator.replace(denoiser=replace(denoiser, pushes=others) if others else denoiser.main)


def _checked(generator: Any) -> DenoiserGenerator:
    if not isinstance(generator, DenoiserGenerator):
        raise CapabilityError(
            f"guidance takes a generator made of a denoiser, a sampler and a codec "
            f"(genplug.DenoiserGenerator), not {type(generator).__name__}"
        )
    return generator
