"""Objective `discriminator-guidance` (Kim et al. 2023, arXiv 2211.17091): D + s sigma^2 grad ln d / (1 - d).

With the optimal discriminator d = data / (data + generator) and s = 1 it makes the score exact at every
noise level. `published` samples as the authors do (`discriminator_sampler`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from genplug.denoiser import DenoiserGenerator
from genplug.pushes import Strength
from genplug.runtime import Run
from genplug_guidance.classifier import Potential
from genplug_guidance.discriminator_sampler import PUBLISHED, DiscriminatorGenerator, DiscriminatorHeun
from genplug_guidance.gradient_config import DiscriminatorGuidanceConfig
from genplug_guidance.realism import RealFakeObjective
from genplug_guidance.strength import strength_of
from genplug_guidance.vp_time import sigma_of_time

#: The published weight of unconditional models; conditional ones have 1, and boosting.
PUBLISHED_SCALE = 2.0


class DiscriminatorGuidance(RealFakeObjective):
    """Correct a generator's score by its discriminator."""

    config: DiscriminatorGuidanceConfig

    def prepare(self, generator: Any, run: Run) -> tuple[Potential, dict[str, Any]]:
        """Train the discriminator; note whether it acts as published."""
        potential, facts = super().prepare(generator, run)
        return potential, {**facts, PUBLISHED: self.config.published}

    def strength(self, generator: Any, facts: Mapping[str, Any]) -> Strength:
        """Return the configured strength; as published, within the times at which the authors guide."""
        published, labelled = self.config.published, "class-conditional" in generator.provides
        default = PUBLISHED_SCALE if published and not labelled else 1.0
        scale = default if self.config.scale is None else self.config.scale
        strength = strength_of(self.config.model_copy(update={"scale": scale}), generator)
        if not published:
            return strength
        low, high = (sigma_of_time(time) for time in self.config.tau)
        return replace(strength, low=max(low, strength.low), high=min(high, strength.high))

    def ready(self, generator: DenoiserGenerator, facts: Mapping[str, Any]) -> DenoiserGenerator:
        """Return the generator, with the published sampler if it is asked for."""
        if not self.config.published:
            return generator
        labelled = "class-conditional" in generator.provides
        boosting = labelled if self.config.boosting is None else self.config.boosting
        fields = {name: getattr(generator, name) for name in generator.__dataclass_fields__}
        return DiscriminatorGenerator(**fields | {"sampler": DiscriminatorHeun(self.config.steps, boosting)})
