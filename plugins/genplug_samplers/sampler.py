"""The EDM samplers as components: a solver with its schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug_samplers.config import EdmSamplerConfig
from genplug_samplers.edm import Churn, edm_sigmas


@dataclass(frozen=True)
class EdmSampler:
    """`solver` is `edm.heun` or `edm.euler`."""

    solver: Callable[..., Tensor]
    config: EdmSamplerConfig

    def sigmas(self, noise: NoiseSpec) -> Tensor:
        """Return the noise levels, within the network's range and rounded to what it knows."""
        low, high = max(self.config.sigma_min, noise.sigma_min), min(self.config.sigma_max, noise.sigma_max)
        levels = edm_sigmas(self.config.steps, low, high, self.config.rho, self._dtype())
        return torch.cat([noise.round_sigma(levels[:-1]), levels[-1:]])

    def sample(
        self, denoise: Callable[[Tensor, Tensor], Tensor], x_T: Tensor, sigmas: Tensor, noise: NoiseSource
    ) -> Tensor:
        """Integrate from x_T at sigmas[0] to a clean x."""
        c = self.config
        churn = Churn(c.churn, c.churn_min, c.churn_max, c.churn_noise)
        return self.solver(denoise, x_T, sigmas, noise, churn, self._dtype()).to(x_T.dtype)

    def _dtype(self) -> torch.dtype:
        return torch.float64 if self.config.precision == "float64" else torch.float32
