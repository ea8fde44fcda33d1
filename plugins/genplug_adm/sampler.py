"""The ancestral (DDPM) and DDIM samplers for any denoiser D(x; sigma), as components.

Divided by sqrt(abar), the steps of discrete-time diffusion need sigma and D alone. From level s to r < s:

    x_r = D + sqrt(r^2 - v) (x - D) / s + sqrt(v) noise

DDIM has v = eta^2 (r / s)^2 (s^2 - r^2); eta = 1 is the ancestral step with the smaller of its two fixed
variances, the posterior's. The larger one, beta_t, has the same mean and noise of variance
(s^2 - r^2) (1 + r^2) / (1 + s^2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from genplug.errors import ConfigError
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug_adm.config import AncestralConfig, DdimConfig, StepConfig
from genplug_adm.respacing import DDIM, kept_timesteps
from genplug_adm.schedule import DiscreteNoise

Denoise = Callable[[Tensor, Tensor], Tensor]


def timestep_sigmas(noise: NoiseSpec, config: StepConfig) -> Tensor:
    """Return the levels of a run's timesteps, from high to 0, float32 S+1.

    A discrete-time network's own timesteps are respaced. Others get the levels of 1000 timesteps of a
    schedule, as far as they lie in the network's range, at evenly spaced, fractional timesteps.
    """
    if isinstance(noise, DiscreteNoise):
        spacing = f"{DDIM if config.spacing == 'ddim' else ''}{config.steps}"
        levels = noise.levels()[kept_timesteps(noise.steps, spacing)].flip(0)
    else:
        levels = noise.round_sigma(_continuous_levels(noise, config))
    return torch.cat([levels, levels.new_zeros(1)]).float()


def _continuous_levels(noise: NoiseSpec, config: StepConfig) -> Tensor:
    known = DiscreteNoise.of(config.schedule, 1000)
    low, high = max(noise.sigma_min, known.sigma_min), min(noise.sigma_max, known.sigma_max)
    if low >= high:
        raise ConfigError(
            f"the {config.schedule} schedule has noise levels from {known.sigma_min:g} to "
            f"{known.sigma_max:g}, the network from {noise.sigma_min:g} to {noise.sigma_max:g}; "
            "use another sampler"
        )
    ends = torch.tensor([high, low], dtype=torch.float64, device="cpu")
    first, last = known.fractional_timestep(ends).tolist()
    index = torch.linspace(first, last, config.steps, dtype=torch.float64, device="cpu")
    logs, below = known.levels().log(), index.floor().long().clamp(max=known.steps - 2)
    return torch.lerp(logs[below], logs[below + 1], index - below).exp().clamp(low, high)


@dataclass(frozen=True)
class AncestralSampler:
    """Ho et al. 2020 (arXiv 2006.11239), algorithm 2."""

    config: AncestralConfig

    def sigmas(self, noise: NoiseSpec) -> Tensor:
        """Return the noise levels from high to 0."""
        return timestep_sigmas(noise, self.config)

    def sample(self, denoise: Denoise, x_T: Tensor, sigmas: Tensor, noise: NoiseSource) -> Tensor:
        """Integrate from x_T at sigmas[0] to a clean x."""
        large = self.config.variance == "fixed-large"
        x, levels = x_T, sigmas.tolist()
        for step, (s, r) in enumerate(pairwise(levels)):
            D = _clean(denoise, x, s, self.config.clip)
            x = D + (r / s) ** 2 * (x - D)
            if r > 0:
                variance = (s**2 - r**2) * ((1 + r**2) / (1 + s**2) if large else (r / s) ** 2)
                x = x + variance**0.5 * noise.normal(x.shape, step).to(x)
        return x


@dataclass(frozen=True)
class DdimSampler:
    """Song et al. 2020 (arXiv 2010.02502), equation 12; eta = 0 is Euler's method on the flow ODE."""

    config: DdimConfig

    def sigmas(self, noise: NoiseSpec) -> Tensor:
        """Return the noise levels from high to 0."""
        return timestep_sigmas(noise, self.config)

    def sample(self, denoise: Denoise, x_T: Tensor, sigmas: Tensor, noise: NoiseSource) -> Tensor:
        """Integrate from x_T at sigmas[0] to a clean x."""
        x, levels = x_T, sigmas.tolist()
        for step, (s, r) in enumerate(pairwise(levels)):
            D = _clean(denoise, x, s, self.config.clip)
            variance = self.config.eta**2 * (r / s) ** 2 * (s**2 - r**2)
            x = D + (r**2 - variance) ** 0.5 * (x - D) / s
            if variance > 0:
                x = x + variance**0.5 * noise.normal(x.shape, step).to(x)
        return x


def _clean(denoise: Denoise, x: Tensor, sigma: float, clip: bool) -> Tensor:
    D = denoise(x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device))
    return D.clamp(-1, 1) if clip else D
