"""The EDM2 network as a trainable denoiser."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
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
    """A `Precond` network, perhaps wrapped, with its noise levels.

    `arguments` are the network's (`Edm2Config.network`): what another one like it is made from.
    """

    module: nn.Module
    arguments: Mapping[str, Any]
    x_shape: tuple[int, ...]
    noise: NoiseSpec
    provides: frozenset[str]
    half: bool = True  # as far as the network and the device allow it

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma)."""
        denoised: Tensor = self.module(x, sigma_N, self.label_rows(cond), force_fp32=not self.half)
        return denoised

    def training_loss(self, x: Tensor, cond: Condition | None, draws: NoiseSource) -> Tensor:
        """Return EDM2's uncertainty-weighted loss, summed over x (equation 21)."""
        sigma_N = self.noise.draw(draws)
        noise = draws.normal(x.shape, "noise")
        labels_NK, sigma_data = self.label_rows(cond), self.noise.sigma_data
        loss = edm2_loss(self.module, x, sigma_N, noise, labels_NK, sigma_data, force_fp32=not self.half)
        return loss.flatten(1).sum(1)

    def label_rows(self, cond: Condition | None) -> Tensor | None:
        """Return what the label path takes, NK: one-hot rows, class weights or f / ||f|| of features f.

        A row of zeros is no label; None where there is no label at all, which the network takes alike.
        """
        width = self.arguments["label_dim"]
        if cond is None or not width:
            return None
        features = "feature-conditional" in self.provides
        return cond.feature_rows(width) if features else cond.label_rows(width)

    def with_unconditional(self) -> Edm2Denoiser:
        """Return the same denoiser saying that it was trained without labels too."""
        return replace(self, provides=self.provides | {"unconditional"})

    def for_features(self, width: int, seed: int) -> Edm2Denoiser:
        """Return the same network with random weights and a label path as wide as features (DiADM)."""
        arguments = {**self.arguments, "label_dim": width}
        words = self.provides - {"class-conditional", "unconditional"}
        return replace(
            self,
            module=random_network(arguments, seed).to(self.device),
            arguments=arguments,
            provides=words | {"feature-conditional", "null-label"},
        )

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


def random_network(arguments: Mapping[str, Any], seed: int) -> Precond:
    """Return a frozen network with random weights that depend on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Precond(**arguments)
    return network.eval().requires_grad_(False)


def build(config: Edm2Config, run: Run) -> DenoiserGenerator:
    """Build a generator with random weights that depend on the run's seed."""
    denoiser = Edm2Denoiser(
        module=random_network(config.network(), run.seed).to(run.device),
        arguments=config.network(),
        x_shape=config.x_shape(),
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
