"""Noise schedules of discrete-time diffusion models, and their levels as noise levels sigma.

The process x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise, t = 0 .. T-1, divided by sqrt(abar_t) is
x_0 + sigma_t noise with sigma_t = sqrt((1 - abar_t) / abar_t). So a network of timesteps knows the T levels
sigma_t, rising with t, and its x is c_in(sigma) = sqrt(abar) = 1 / sqrt(1 + sigma^2) times ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource

ScheduleName = Literal["linear", "cosine"]
LARGEST_BETA = 0.999
ADM_STEPS = 1000  # timesteps are scaled to this range where a network wants them rescaled


def betas(schedule: ScheduleName, steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the variance that each step adds, float64 T.

    `linear`: from 1e-4 to 0.02 for 1000 steps, scaled to other numbers of steps (Ho et al. 2020);
    `cosine`: abar(u) = cos^2((u + 0.008) / 1.008 * pi / 2) (Nichol and Dhariwal 2021, equation 17).
    """
    if schedule == "linear":
        scale = 1000 / steps
        return np.linspace(scale * 1e-4, scale * 0.02, steps).clip(max=LARGEST_BETA)
    u = np.arange(steps + 1) / steps
    abar = np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    rise: np.ndarray[Any, np.dtype[np.float64]] = 1 - abar[1:] / abar[:-1]
    return rise.clip(max=LARGEST_BETA)


def sigmas_of(alphas_cumprod: Any) -> Any:
    """Return sigma = sqrt((1 - abar) / abar)."""
    return ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5


@lru_cache(maxsize=16)
def _levels(schedule: ScheduleName, steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    levels: np.ndarray[Any, np.dtype[np.float64]] = sigmas_of((1 - betas(schedule, steps)).cumprod())
    return levels


def _uniform_moments(schedule: ScheduleName, steps: int) -> tuple[float, float]:
    """Return mean and standard deviation of ln sigma under uniform timesteps."""
    logs = np.log(_levels(schedule, steps))
    return float(logs.mean()), float(logs.std())


@dataclass(frozen=True)
class DiscreteNoise(NoiseSpec):
    """The noise levels of a network that was trained on T timesteps; make it with `of`.

    Training draws the T levels equally often. Another `log_mean` or `log_std` than theirs replaces that by
    a normal distribution of ln sigma, rounded to the levels.
    """

    schedule: ScheduleName = "linear"
    steps: int = 1000
    fractional: bool = False

    @classmethod
    def of(
        cls, schedule: ScheduleName, steps: int, sigma_data: float = 0.5, fractional: bool = False
    ) -> DiscreteNoise:
        """Return the levels of a schedule of T = `steps`.

        With `fractional`, the network is asked for every level in between too, at an interpolated timestep.
        """
        levels, (log_mean, log_std) = _levels(schedule, steps), _uniform_moments(schedule, steps)
        return cls(
            sigma_min=float(levels[0]),
            sigma_max=float(levels[-1]),
            sigma_data=sigma_data,
            log_mean=log_mean,
            log_std=log_std,
            schedule=schedule,
            steps=steps,
            fractional=fractional,
        )

    def levels(self) -> Tensor:
        """Return all T levels, rising, float64."""
        return torch.from_numpy(_levels(self.schedule, self.steps))

    def timestep(self, sigma_N: Tensor) -> Tensor:
        """Return the timestep of each level: the nearest in ln sigma, int64.

        With `fractional` it is interpolated linearly in ln sigma, float64; both stay within 0 and T - 1.
        """
        index = self.fractional_timestep(sigma_N)
        return index if self.fractional else index.round().long()

    def fractional_timestep(self, sigma_N: Tensor) -> Tensor:
        """Return timesteps interpolated linearly in ln sigma, float64 in [0, T - 1]."""
        known, asked = self.levels().log().to(sigma_N.device), sigma_N.double().log()
        above = torch.searchsorted(known, asked.contiguous()).clamp(1, self.steps - 1)
        low, high = known[above - 1], known[above]
        return (above - 1 + (asked - low) / (high - low)).clamp(0, self.steps - 1)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """Return the nearest levels that the network knows; with `fractional` it knows all."""
        if self.fractional:
            return sigma
        return self.levels().to(sigma.device)[self.timestep(sigma)].to(sigma.dtype)

    def draw(self, noise: NoiseSource, step: int | str = "sigma") -> Tensor:
        """Draw one training level per seed, float32 N."""
        if (self.log_mean, self.log_std) != _uniform_moments(self.schedule, self.steps):
            return self.round_sigma(super().draw(noise, step))
        return self.at(noise.integers(self.steps, (len(noise),), step))

    def at(self, timesteps_N: Tensor) -> Tensor:
        """Return the levels of integer timesteps, float32 N."""
        return self.levels().float().to(timesteps_N.device)[timesteps_N]

    def weight(self, sigma_N: Tensor) -> Tensor:
        """Return 1 / sigma^2, which makes the squared error of D that of the predicted noise."""
        return sigma_N**-2
