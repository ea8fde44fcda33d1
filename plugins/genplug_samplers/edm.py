"""EDM samplers: Heun and Euler on the probability-flow ODE, with optional churn (Karras et al. 2022, arXiv
2206.00364).

A denoiser is a function D(x, sigma_N) -> x, sigma of shape [N] as the state's batch. The state has any shape
N... .
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


class Noise(Protocol):
    """Unit normal draws, one random stream per sample; `step` tells the draws of one stream apart."""

    def normal(self, shape: tuple[int, ...], step: int) -> Tensor: ...


@dataclass(frozen=True)
class Churn:
    """Noise added and removed again at each step (Algorithm 2 of EDM).

    Steps with s_min <= sigma <= s_max raise sigma by the factor 1 + min(amount / steps, sqrt(2) - 1) with
    noise of standard deviation s_noise. Draws are named by their step, so it
    does not matter which steps draw.
    """

    amount: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def gamma(self, sigma: float, steps: int) -> float:
        """Relative rise of sigma at one step."""
        return min(self.amount / steps, math.sqrt(2) - 1) if self.s_min <= sigma <= self.s_max else 0.0


def edm_sigmas(
    steps: int,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Noise levels from sigma_max down to sigma_min, uniform in sigma^(1/rho), then 0: steps + 1 values
    (Equation 5).

    One step gives sigma_max alone, then 0.
    """
    ramp = torch.arange(steps, dtype=dtype) / max(steps - 1, 1)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=dtype)])


@torch.no_grad()
def heun(
    denoise: Denoise,
    x_T: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,
    churn: Churn = Churn(),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Integrate from `x_T` (at sigmas[0], already scaled by it) to sigmas[-1] with Heun's second-order
    method.

    The correction is skipped where the next sigma is 0, so that S steps cost 2S - 1 denoiser calls. `dtype`
    is the state's precision (EDM: float64, EDM2: float32); the denoiser is called with x_T's dtype. `noise`
    is needed for churn only.
    """
    D = _at_precision(denoise, x_T.dtype, dtype)
    x, sigmas = x_T.to(dtype), sigmas.to(x_T.device, dtype)
    for step, next_sigma in enumerate(sigmas[1:]):
        x, sigma = _add_noise(x, sigmas, step, noise, churn)
        slope = (x - D(x, sigma)) / sigma
        x_next = x + (next_sigma - sigma) * slope
        if next_sigma > 0:
            next_slope = (x_next - D(x_next, next_sigma)) / next_sigma
            x_next = x + (next_sigma - sigma) * (0.5 * slope + 0.5 * next_slope)
        x = x_next
    return x


@torch.no_grad()
def euler(
    denoise: Denoise,
    x_T: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,
    churn: Churn = Churn(),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Integrate with Euler's first-order method; S steps cost S denoiser calls. Arguments as for `heun`."""
    D = _at_precision(denoise, x_T.dtype, dtype)
    x, sigmas = x_T.to(dtype), sigmas.to(x_T.device, dtype)
    for step, next_sigma in enumerate(sigmas[1:]):
        x, sigma = _add_noise(x, sigmas, step, noise, churn)
        x = x + (next_sigma - sigma) * (x - D(x, sigma)) / sigma
    return x


def _at_precision(denoise: Denoise, network: torch.dtype, state: torch.dtype) -> Denoise:
    """The denoiser for a state of another precision and a single sigma for the whole batch."""

    def call(x: Tensor, sigma: Tensor) -> Tensor:
        return denoise(x.to(network), sigma.to(network).expand(len(x))).to(state)

    return call


def _add_noise(
    x: Tensor, sigmas: Tensor, step: int, noise: Noise | None, churn: Churn
) -> tuple[Tensor, Tensor]:
    """Raise x from sigmas[step] to the churned level; returns the new state and its sigma."""
    sigma = sigmas[step]
    gamma = churn.gamma(float(sigma), len(sigmas) - 1)
    if gamma == 0:
        return x, sigma
    if noise is None:
        raise ValueError("churn needs a noise source")
    sigma_hat = sigma + gamma * sigma
    spread = (sigma_hat**2 - sigma**2).clamp(min=0).sqrt() * churn.s_noise
    return x + spread * noise.normal(tuple(x.shape), step).to(x), sigma_hat
