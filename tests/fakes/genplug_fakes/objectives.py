"""The objectives of the fakes: one of each stage, one with a second generator, one with other conditions."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from genplug import Condition
from genplug.stages import write_json
from genplug_fakes.parts import CLASSES


@dataclass
class Shifted:
    """Any generator with its samples moved: a wrapper, so it works for black boxes."""

    inner: object
    by: int

    @property
    def provides(self):
        return self.inner.provides - {"denoiser", "likelihood", "trainable"}

    @property
    def modality(self):
        return self.inner.modality

    @property
    def size(self):
        return self.inner.size

    def conditions(self, seeds_N, policy="balanced"):
        return self.inner.conditions(seeds_N, policy)

    def sample(self, seeds_N, cond=None):
        samples = self.inner.sample(seeds_N, cond)
        moved = samples.float() + self.by
        return moved.clamp(0, 255).to(torch.uint8) if samples.dtype == torch.uint8 else moved

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)


class Remade:
    """Objectives without weights of their own: restoring is applying again."""

    def save(self, generator, directory):
        write_json(directory / "objective.json", {"name": type(self).__name__})

    def restore(self, base, directory, run):
        return self.apply(base, run)


class Shift(Remade):
    def __init__(self, by):
        self.by = by

    def apply(self, generator, run):
        return Shifted(generator, self.by)


TRAINING = {"trainable", "feature-trainable", "null-label"}


@dataclass(frozen=True)
class Guided:
    """A denoiser changed by a function of (D, x, sigma, cond); not trainable."""

    inner: object
    change: object

    @property
    def provides(self):
        return self.inner.provides - TRAINING

    @property
    def x_shape(self):
        return self.inner.x_shape

    @property
    def noise(self):
        return self.inner.noise

    @property
    def device(self):
        return self.inner.device

    def denoise(self, x, sigma_N, cond):
        return self.change(self.inner, x, sigma_N, cond)


@dataclass(frozen=True)
class Factor:
    value: float

    def __call__(self, inner, x, sigma_N, cond):
        return self.value * inner.denoise(x, sigma_N, cond)


class Shrink:
    """Its control is the same denoiser, not pulled. What it trains is nothing, once for all factors."""

    def __init__(self, factor):
        self.factor = factor

    def apply(self, generator, run):
        run.shared("nothing", {}).stage("done", {}, lambda partial: None)
        return generator.replace(denoiser=Guided(generator.denoiser, Factor(self.factor)))

    def control(self, generator, run):
        return generator.replace(denoiser=Guided(generator.denoiser, Factor(1.0)))

    def save(self, generator, directory):
        write_json(directory / "objective.json", {"factor": generator.denoiser.change.value})

    def restore(self, base, directory, run):
        factor = json.loads((directory / "objective.json").read_text())["factor"]
        return base.replace(denoiser=Guided(base.denoiser, Factor(factor)))


@dataclass(frozen=True)
class Contrasted(Guided):
    """`change` is the guide."""

    guidance: float = 1.0

    @property
    def provides(self):
        return super().provides | {"guided"}

    def with_guidance(self, scale):
        return replace(self, guidance=scale)

    def denoise(self, x, sigma_N, cond):
        ours, theirs = (one.denoise(x, sigma_N, cond) for one in (self.inner, self.change))
        return torch.lerp(theirs, ours, self.guidance)


class Contrast(Remade):
    def __init__(self, guide, scale):
        self.guide, self.scale = guide, scale

    def apply(self, generator, run):
        guide = run.generator(self.guide)
        return generator.replace(denoiser=Contrasted(generator.denoiser, guide, self.scale))


class FeaturesBySeed:
    """Conditions of the reconditioned generator: one-hot features drawn by seed."""

    def __call__(self, seeds_N, policy="balanced"):
        return Condition(features_ND=F.one_hot(seeds_N % CLASSES, CLASSES).float())


@dataclass(frozen=True)
class FromFeatures(Guided):
    @property
    def provides(self):
        return super().provides - {"class-conditional"} | {"feature-conditional"}


class Recondition(Remade):
    def apply(self, generator, run):
        def change(inner, x, sigma_N, cond):
            return inner.denoise(x, sigma_N, Condition(labels_N=cond.features_ND.argmax(1)))

        return generator.replace(
            denoiser=FromFeatures(generator.denoiser, change), conditioning=FeaturesBySeed()
        )
