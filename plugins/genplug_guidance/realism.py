"""Objective `realism-guidance`: towards what a real/fake classifier takes for real (arXiv 2405.18029).

The classifier sees real data and the generator's own samples, both noised. Its gradient acts only at
noise levels where its held-out accuracy beats chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genplug.checkpoints import digest
from genplug.condition import Condition
from genplug.denoiser import Labels
from genplug.errors import ConfigError, DataError
from genplug.pools import draw_pool
from genplug.protocols import NoiseSpec
from genplug.pushes import Strength
from genplug.runtime import Run
from genplug.samplesets import ArraySet, Quantised
from genplug.training import TensorRows, training_key
from genplug_guidance.classifier import Blueprint, Potential, RealPotential
from genplug_guidance.classifier_training import (
    Measured,
    Task,
    check_worth,
    data_rows,
    measure,
    real_fake_verdict,
    sharing,
    split_rows,
    train_classifier,
)
from genplug_guidance.gradient import InBands
from genplug_guidance.gradient_config import RealFakeConfig, RealismGuidanceConfig
from genplug_guidance.gradient_objective import GradientObjective, blueprint_facts, network_of


class RealFakeObjective(GradientObjective):
    """Push along the gradient of a classifier of real data against the generator's samples."""

    config: RealFakeConfig

    def prepare(self, generator: Any, run: Run) -> tuple[Potential, dict[str, Any]]:
        """Train the classifier and measure it."""
        logits = _classes(generator) if self.config.per_class else 1
        blueprint = Blueprint(self.config.network, tuple(generator.x_shape), logits)
        noise: NoiseSpec = generator.noise
        run = sharing(run, generator, self.config)
        task = real_fake_task(run, generator, self.config)
        module = train_classifier(run, blueprint, task, self.config, noise)
        measured = measure(run, module, task, noise, self.config.bins)
        check_worth(run, measured, self.config.force)
        facts = {"blueprint": blueprint_facts(blueprint), "measured": measured.record()}
        return RealPotential(module, self.config.target), facts

    def potential(self, facts: Mapping[str, Any], directory: Path, run: Run) -> Potential:
        """Return the saved classifier."""
        return RealPotential(network_of(facts, directory, run), self.config.target)


class RealismGuidance(RealFakeObjective):
    """Realism guidance: active where the classifier knows more than chance."""

    config: RealismGuidanceConfig

    def prepare(self, generator: Any, run: Run) -> tuple[Potential, dict[str, Any]]:
        """Train the classifier and find the noise levels at which it guides."""
        potential, facts = super().prepare(generator, run)
        measured, margin = Measured.of(facts["measured"]), self.config.margin
        active = measured.beating(margin)
        if not any(active):
            text = f"the classifier beats chance by {margin:.1%} at no noise level"
            if not self.config.force:
                raise ConfigError(
                    f"{text}; lower objective.margin, or guide everywhere by objective.force=true"
                )
            run.log.warn(f"{text}; it guides everywhere, forced")
            active = tuple(True for _ in active)
        run.event("guided", edges=measured.edges(), active=active)
        return potential, {**facts, "active": list(active)}

    def strength(self, generator: Any, facts: Mapping[str, Any]) -> Strength:
        """Return the configured strength within the active noise bins."""
        inner = super().strength(generator, facts)
        return InBands(inner, Measured.of(facts["measured"]).edges(), tuple(facts["active"]))


def _classes(generator: Any) -> int:
    conditioning = getattr(generator, "conditioning", None)
    if not isinstance(conditioning, Labels):
        raise ConfigError("objective.per_class needs a generator with class labels")
    return conditioning.num_classes


def real_fake_task(run: Run, generator: Any, config: RealFakeConfig) -> Task:
    """Return the task of telling real data from the generator's samples."""
    rows = data_rows(run, generator, config.per_class)
    fake = _pool(run, generator, config, len(rows))
    real_train, real_out = split_rows(rows, config.held_out, run.seed)
    fake_train, fake_out = split_rows(fake, config.held_out, run.seed)
    key = {**training_key(run, generator), "held_out": config.held_out, "pool": digest({"x": fake.x})}
    train, held_out = {"real": real_train, "fake": fake_train}, {"real": real_out, "fake": fake_out}
    return Task(train, held_out, real_fake_verdict, 0.5, {**key, "per_class": config.per_class})


def _pool(run: Run, generator: Any, config: RealFakeConfig, real: int) -> TensorRows:
    """Draw the generator's samples, kept as a stage."""
    count = real if config.pool < 0 else config.pool
    levels = getattr(run.data, "levels", 256) if run.settings.quantise else 256

    def draw(seeds_N: Tensor, cond: Condition | None) -> Tensor:
        with torch.no_grad():
            x: Tensor = generator.sample_x(seeds_N, cond)
            return reencoded(generator, x, levels) if config.reencode else x

    key = {"reencode": config.reencode, "levels": levels}
    pool = draw_pool(run, "pool", generator, count, draw, key=key)
    if config.per_class and pool.labels is None:
        raise DataError("objective.per_class needs samples with labels")
    return pool if config.per_class else TensorRows(pool.x)


def reencoded(generator: Any, x: Tensor, levels: int) -> Tensor:
    """Return x as real data come: decoded to samples of so many grey levels and encoded again."""
    samples = generator.decode(x)
    if samples.dtype == torch.uint8 and levels < 256:
        samples = Quantised(ArraySet(samples.cpu()), levels).read(range(len(samples))).to(x.device)
    encoded: Tensor = generator.encode(samples)
    return encoded
