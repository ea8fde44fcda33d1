"""How strong guidance is at a noise level: scale, interval in sigma, schedule over the sampler's steps.

The convention everywhere inside is EDM's, D = G + w (D - G): w = 1 is none. A schedule gives each step a
share of the effect: w = 1 + share (scale - 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genplug.errors import ConfigError
from genplug_guidance.config import GuidanceConfig


@dataclass(frozen=True)
class Strength:
    """w by noise level: 1 + share (scale - 1) within [low, high], 1 outside.

    `levels_S` are the sampler's noise levels above 0, from high to low, with their shares. A level between
    two of them, as churn makes it, has the share of the nearest one in ln sigma.
    """

    scale: float
    low: float = 0.0
    high: float = math.inf
    levels_S: Tensor | None = None
    shares_S: Tensor | None = None

    def with_scale(self, scale: float) -> Strength:
        """Return the same interval and schedule at another scale w."""
        return replace(self, scale=scale)

    def excess(self, sigma_N: Tensor) -> Tensor:
        """Return w - 1 of each row, float32 N."""
        inside_N = (sigma_N >= self.low) & (sigma_N <= self.high)
        return inside_N * self._share(sigma_N) * (self.scale - 1)

    def __call__(self, sigma_N: Tensor) -> Tensor:
        """Return w of each row, float32 N."""
        return 1 + self.excess(sigma_N)

    def _share(self, sigma_N: Tensor) -> Tensor:
        if self.levels_S is None or self.shares_S is None:
            return torch.ones_like(sigma_N)
        levels_S, shares_S = self.levels_S.to(sigma_N), self.shares_S.to(sigma_N)
        apart_NS = (sigma_N.clamp(min=1e-12).log()[:, None] - levels_S.log()).abs()
        return shares_S[apart_NS.argmin(1)]


def strength_of(config: GuidanceConfig, generator: Any) -> Strength:
    """Return the strength that a configuration means for a generator with its sampler."""
    levels_S = generator.sampler.sigmas(generator.noise)
    levels_S = levels_S[levels_S > 0]
    schedule = "linear" if config.convention == "var" else config.schedule
    if schedule == "constant":
        return Strength(to_edm(config.scale, config.convention), config.sigma_low, config.sigma_high)
    if not isinstance(schedule, str) and len(schedule) != len(levels_S):
        raise ConfigError(
            f"objective.schedule has {len(schedule)} values, the sampler {len(levels_S)} steps; give one each"
        )
    shares_S = torch.tensor(shares(schedule, len(levels_S)))
    scale = to_edm(config.scale, config.convention)
    return Strength(scale, config.sigma_low, config.sigma_high, levels_S, shares_S)


def shares(schedule: str | Sequence[float], steps: int) -> list[float]:
    """Return the share of the effect at each step: 0 to 1 along a line or half a cosine, or as given."""
    if not isinstance(schedule, str):
        return [float(share) for share in schedule]
    done = [step / max(steps - 1, 1) for step in range(steps)]
    courses = {
        "constant": [1.0 for _ in done],
        "linear": done,
        "cosine": [(1 - math.cos(math.pi * t)) / 2 for t in done],
    }
    return courses[schedule]


def to_edm(scale: float, convention: str) -> float:
    """Return a scale of another convention as w of G + w (D - G).

    Ho and Salimans (arXiv 2207.12598, equation 6), DDO (arXiv 2503.01103) and VAR's code write
    (1 + s) D - s G = G + (1 + s) (D - G), so w = 1 + s.
    """
    return scale if convention == "edm" else 1 + scale


def from_edm(w: float, convention: str) -> float:
    """Return w of G + w (D - G) as a scale of another convention: the inverse of `to_edm`."""
    return w if convention == "edm" else w - 1
