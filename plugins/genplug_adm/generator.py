"""The ADM U-Net, which predicts noise at timesteps, as a trainable denoiser D(x; sigma).

With eps = network(x / sqrt(1 + sigma^2), t(sigma)), D = x - sigma eps. The timestep is that of the nearest
level that the network knows, in ln sigma, or a fractional one (`DiscreteNoise`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from genplug.condition import Condition
from genplug.denoiser import DenoiserGenerator, Labels, PixelCodec
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug_adm.config import AdmConfig
from genplug_adm.diffusion import Diffusion, spread_rows
from genplug_adm.loss import hybrid_loss
from genplug_adm.schedule import ADM_STEPS, DiscreteNoise
from genplug_adm.unet import UNetModel


@dataclass(frozen=True)
class AdmDenoiser:
    """A `UNetModel`, perhaps wrapped, with its process and noise levels.

    `arguments` are the network's (`AdmConfig.network`): what another one like it is made from.
    """

    module: nn.Module
    arguments: Mapping[str, Any]
    x_shape: tuple[int, ...]
    noise: DiscreteNoise
    process: Diffusion
    provides: frozenset[str]
    clip: bool
    half: bool = True  # as far as the network and the device allow it

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def learn_sigma(self) -> bool:
        """Whether the network predicts variances beside the noise."""
        return bool(self.arguments["out_channels"] > self.x_shape[0])

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma), clipped to [-1, 1] if so configured."""
        sigma = spread_rows(sigma_N, x)
        output = self._network(x * (1 + sigma**2).rsqrt(), self.noise.timestep(sigma_N), cond)
        D = x - sigma * output[:, : x.shape[1]]
        return D.clamp(-1, 1) if self.clip else D

    def training_loss(self, x: Tensor, cond: Condition | None, draws: NoiseSource) -> Tensor:
        """Return the hybrid loss at a uniform timestep, or the plain one, summed over x."""
        t = draws.integers(self.noise.steps, (len(x),), "timestep")
        noise = draws.normal(x.shape, "noise")
        output = self._network(self.process.q_sample(x, t, noise), t, cond)
        return hybrid_loss(self.process, output, x, t, noise, self.learn_sigma)

    def _network(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
        """Return the network's output, NCHW or N2CHW; t may be fractional."""
        time = t.float() * (ADM_STEPS / self.noise.steps) if self.process.rescale_timesteps else t
        output: Tensor = self.module(x_t, time, self.label_rows(len(x_t), cond), force_fp32=not self.half)
        return output

    def label_rows(self, n: int, cond: Condition | None) -> Tensor | None:
        """Return what the label path takes, NK: one-hot rows, class weights or f / ||f|| of features f.

        A row of zeros, whose embedding is zero, is no label; None for an unconditional network.
        """
        width = self.arguments["num_classes"]
        if not width:
            return None
        if cond is None or cond.is_null:
            return torch.zeros(n, width, device=self.device)
        features = "feature-conditional" in self.provides
        return cond.feature_rows(width) if features else cond.label_rows(width)

    def with_unconditional(self) -> AdmDenoiser:
        """Return the same denoiser saying that it was trained without labels too."""
        return replace(self, provides=self.provides | {"unconditional"})

    def for_features(self, width: int, seed: int) -> AdmDenoiser:
        """Return the same network with random weights and a label path as wide as features."""
        arguments = {**self.arguments, "num_classes": width}
        words = self.provides - {"class-conditional", "unconditional"}
        return replace(
            self,
            module=random_network(arguments, seed).to(self.device),
            arguments=arguments,
            provides=words | {"feature-conditional", "null-label"},
        )

    def with_module(self, module: nn.Module) -> AdmDenoiser:
        """Return the same denoiser around another module."""
        return replace(self, module=module)

    def full_precision(self) -> AdmDenoiser:
        """Return the same denoiser computing in float32 throughout."""
        return replace(self, half=False)

    def after_step(self) -> None:
        """Do nothing: the weights have no invariants."""

    def clone(self) -> AdmDenoiser:
        """Return a copy with its own weights."""
        return replace(self, module=copy.deepcopy(self.module))


def random_network(arguments: Mapping[str, Any], seed: int) -> UNetModel:
    """Return a frozen network with random weights that depend on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNetModel(**arguments)
    return network.eval().requires_grad_(False)


def build(config: AdmConfig, run: Run) -> DenoiserGenerator:
    """Build a generator with random weights that depend on the run's seed."""
    noise = DiscreteNoise.of(config.schedule, config.diffusion_steps, config.sigma_data, config.fractional)
    sampler = run.component("sampler", config.sampler)
    sampler.sigmas(noise)  # more steps than timesteps are refused here, before any work
    denoiser = AdmDenoiser(
        module=random_network(config.network(), run.seed).to(run.device),
        arguments=config.network(),
        x_shape=config.x_shape(),
        noise=noise,
        process=Diffusion.of(
            config.schedule, config.diffusion_steps, rescale_timesteps=config.rescale_timesteps
        ),
        provides=config.provides(),
        clip=config.clip,
    )
    labels = Labels(config.num_classes) if config.num_classes else None
    return DenoiserGenerator(denoiser, sampler, PixelCodec(), labels)
