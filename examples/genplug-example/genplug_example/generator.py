"""A denoiser of small grey images: an MLP with EDM's preconditioning (Karras et al. 2022, arXiv 2206.00364).

Shapes: N images, C = 1 channel, H W pixels, D = H * W, K classes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from genplug import Condition, DenoiserGenerator, NoiseSource, NoiseSpec
from genplug.denoiser import Labels, PixelCodec
from genplug.runtime import Run
from torch import Tensor, nn

from genplug_example.config import MlpConfig


class Mlp(nn.Module):
    """D(x; sigma) of table 1: c_skip x + c_out F(c_in x, c_noise, class)."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        D, K, width = config.resolution**2, config.num_classes, config.width
        self.sigma_data = config.sigma_data
        self.net = nn.Sequential(
            nn.Linear(D + K + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, D)
        )

    def forward(self, x_NCHW: Tensor, sigma_N: Tensor, classes_NK: Tensor) -> Tensor:
        """Return the expected clean images, NCHW."""
        x_ND, sigma_N1 = x_NCHW.flatten(1), sigma_N[:, None]
        total = (sigma_N1**2 + self.sigma_data**2).sqrt()
        c_skip, c_out = (self.sigma_data / total) ** 2, sigma_N1 * self.sigma_data / total
        c_in, c_noise = 1 / total, sigma_N1.log() / 4
        F_ND: Tensor = self.net(torch.cat([c_in * x_ND, c_noise, classes_NK], 1))
        return (c_skip * x_ND + c_out * F_ND).reshape(x_NCHW.shape)


@dataclass(frozen=True)
class MlpDenoiser:
    """The network, perhaps wrapped or averaged, as genplug's `denoiser` and `trainable`."""

    module: nn.Module
    config: MlpConfig

    @property
    def provides(self) -> frozenset[str]:
        """What the configuration says."""
        return self.config.provides()

    @property
    def x_shape(self) -> tuple[int, ...]:
        """CHW of x."""
        return self.config.x_shape()

    @property
    def noise(self) -> NoiseSpec:
        """EDM's noise levels: 0.002 to 80, trained at ln sigma ~ N(-1.2, 1.2^2)."""
        return NoiseSpec(sigma_data=self.config.sigma_data)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma); without a condition all classes are equally likely."""
        denoised: Tensor = self.module(x, sigma_N, self._classes(len(x), cond))
        return denoised

    def training_loss(self, x: Tensor, cond: Condition | None, draws: NoiseSource) -> Tensor:
        """Return lambda(sigma) |D(x + sigma n; sigma) - x|^2, summed over x (equations 2 and 3)."""
        sigma_N = self.noise.draw(draws)
        noisy = x + sigma_N.reshape(-1, 1, 1, 1) * draws.normal(x.shape, "noise")
        error = self.denoise(noisy, sigma_N, cond) - x
        return self.noise.weight(sigma_N) * error.square().flatten(1).sum(1)

    def with_module(self, module: nn.Module) -> MlpDenoiser:
        """Return the same denoiser around another module."""
        return replace(self, module=module)

    def after_step(self) -> None:
        """Do nothing: these weights have no invariant."""

    def clone(self) -> MlpDenoiser:
        """Return a copy with its own weights."""
        return replace(self, module=copy.deepcopy(self.module))

    def _classes(self, count: int, cond: Condition | None) -> Tensor:
        """Return one-hot or soft class weights, NK."""
        K = self.config.num_classes
        if cond is not None and cond.labels_N is not None:
            return F.one_hot(cond.labels_N, K).to(torch.float32)
        if cond is not None and cond.weights_NK is not None:
            return cond.weights_NK
        return torch.full((count, K), 1 / K, device=self.device)


def build(config: MlpConfig, run: Run) -> DenoiserGenerator:
    """Build a generator whose random weights depend on the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = Mlp(config)
    return DenoiserGenerator(
        denoiser=MlpDenoiser(network.eval().requires_grad_(False).to(run.device), config),
        sampler=run.component("sampler", config.sampler),
        codec=PixelCodec(),
        conditioning=Labels(config.num_classes),
    )
