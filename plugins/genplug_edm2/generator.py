"""The EDM2 network as a trainable denoiser."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug.condition import Condition
from genplug.denoiser import DenoiserGenerator, Labels, PixelCodec
from genplug.guided import guided
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug_edm2.codecs import StabilityVae
from genplug_edm2.config import Edm2Config
from genplug_edm2.loss import edm2_loss
from genplug_edm2.network import Precond, force_normalize_


@dataclass(frozen=True)
class Edm2Denoiser:
    """A `Precond` network, perhaps wrapped, with its noise levels."""

    module: nn.Module
    x_shape: tuple[int, ...]
    num_classes: int
    noise: NoiseSpec
    provides: frozenset[str]
    half: bool = True  # as far as the network and the device allow it

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma)."""
        denoised: Tensor = self.module(x, sigma_N, self.class_weights(cond), force_fp32=not self.half)
        return denoised

    def training_loss(self, x: Tensor, cond: Condition | None, draws: NoiseSource) -> Tensor:
        """Return EDM2's uncertainty-weighted loss, summed over x (equation 21)."""
        sigma_N = self.noise.draw(draws)
        noise = draws.normal(x.shape, "noise")
        labels_NK, sigma_data = self.class_weights(cond), self.noise.sigma_data
        loss = edm2_loss(self.module, x, sigma_N, noise, labels_NK, sigma_data, force_fp32=not self.half)
        return loss.flatten(1).sum(1)

    def class_weights(self, cond: Condition | None) -> Tensor | None:
        """Return one-hot or soft class weights NK; None for an absent label."""
        if cond is None or cond.is_null or not self.num_classes:
            return None
        if cond.labels_N is not None:
            return F.one_hot(cond.labels_N, self.num_classes).to(torch.float32)
        if cond.weights_NK is None:
            raise ValueError("EDM2 is conditioned on labels or class weights")
        return cond.weights_NK

    def with_module(self, module: nn.Module) -> Edm2Denoiser:
        """Return the same denoiser around another module."""
        return replace(self, module=module)

    def full_precision(self) -> Edm2Denoiser:
        """Return the same denoiser computing in float32 throughout."""
        return replace(self, half=False)

    def after_step(self) -> None:
        """Force the weights back to unit magnitude (equation 66)."""
        force_normalize_(self.module)

    def clone(self) -> Edm2Denoiser:
        """Return a copy with its own weights."""
        return replace(self, module=copy.deepcopy(self.module))


def build(config: Edm2Config, run: Run) -> DenoiserGenerator:
    """Build a generator with random weights that depend on the run's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = Precond(**config.network())
    denoiser = Edm2Denoiser(
        module=network.eval().requires_grad_(False).to(run.device),
        x_shape=config.x_shape(),
        num_classes=config.num_classes,
        noise=NoiseSpec(
            config.sigma_min, config.sigma_max, config.sigma_data, config.log_mean, config.log_std
        ),
        provides=config.provides(),
    )
    generator = DenoiserGenerator(
        denoiser=denoiser,
        sampler=run.component("sampler", config.sampler),
        codec=StabilityVae() if config.latent else PixelCodec(),
        conditioning=Labels(config.num_classes) if config.num_classes else None,
    )
    if config.guide is None or config.guidance is None:
        return generator
    return guided(generator, run.generator(config.guide), config.guidance)
