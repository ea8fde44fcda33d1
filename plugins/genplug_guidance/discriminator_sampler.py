"""The published sampler of discriminator guidance: Heun steps whose correction is not guided.

    slope   = (x - D) / sigma - w sigma grad ln d / (1 - d)          first order, guided
    x'      = x + (sigma' - sigma) slope
    slope'  = (x' - D(x'; sigma')) / sigma'                          correction, not guided
    x_next  = x + (sigma' - sigma) (slope + slope') / 2

S steps cost 2 S - 1 evaluations of the denoiser and at most S of the discriminator, forward and back.
Boosting: rows whose last log-ratio was negative get S_churn = 4 in every fifth step; rows whose log-ratio
is negative get twice the guidance in every second step. Both begin with the first step, before which no
log-ratio is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.denoiser import DenoiserGenerator
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug_guidance.gradient import GradientPush
from genplug_guidance.gradient_objective import gradient_pushes, without
from genplug_samplers.edm import edm_sigmas

#: What the facts of a push say that is to act in the first-order evaluation alone.
PUBLISHED = "published"

DOUBLED_EVERY, CHURNED_EVERY, CHURN = 2, 5, 4.0

#: Returns w sigma grad (what is taken off the slope) and the log-ratio, N, at (x, sigma_N).
Guide = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class DiscriminatorHeun:
    """A sampler with a state in float64. Without a guide it is plain Heun."""

    steps: int
    boosting: bool
    guide: Guide | None = None

    def sigmas(self, noise: NoiseSpec) -> Tensor:
        """Return EDM's noise levels within the network's range, from high to 0."""
        low, high = max(0.002, noise.sigma_min), min(80.0, noise.sigma_max)
        levels = edm_sigmas(self.steps, low, high, dtype=torch.float64)
        return torch.cat([noise.round_sigma(levels[:-1]), levels[-1:]])

    def sample(
        self, denoise: Callable[[Tensor, Tensor], Tensor], x_T: Tensor, sigmas: Tensor, noise: NoiseSource
    ) -> Tensor:
        """Integrate from x_T at sigmas[0] to a clean x."""
        x, ratio_N = x_T.double(), torch.full((len(x_T),), math.inf, device=x_T.device)

        def slope_at(x: Tensor, sigma_N: Tensor) -> Tensor:
            D = denoise(x.to(x_T.dtype), sigma_N.to(x_T.dtype))
            return (x - D) / _shaped(sigma_N, x)

        for step, (sigma, next_sigma) in enumerate(pairwise(sigmas)):
            x, sigma_N = self._churned(x, sigma, step, ratio_N, noise)
            slope = slope_at(x, sigma_N)
            if self.guide is not None:
                push, ratio_N = self.guide(x.to(x_T.dtype), sigma_N.to(x_T.dtype))
                slope = slope - push * _shaped(self._weight(ratio_N, step), x)
            stride = _shaped(next_sigma - sigma_N, x)
            x_next = x + stride * slope
            if next_sigma > 0:
                second = slope_at(x_next, next_sigma.expand(len(x)))
                x_next = x + stride * (0.5 * slope + 0.5 * second)
            x = x_next
        return x.to(x_T.dtype)

    def _churned(
        self, x: Tensor, sigma: Tensor, step: int, ratio_N: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor]:
        """Return x and its level per row, raised in rows that are boosted."""
        raised_N = (ratio_N < 0) & (self.boosting and step % CHURNED_EVERY == 0)
        sigma_N = sigma * (1 + raised_N * min(CHURN / self.steps, math.sqrt(2) - 1))
        if not bool(raised_N.any()):
            return x, sigma_N
        spread_N = (sigma_N**2 - sigma**2).clamp(min=0).sqrt()
        return x + _shaped(spread_N, x) * noise.normal(tuple(x.shape), step).to(x), sigma_N

    def _weight(self, ratio_N: Tensor, step: int) -> Tensor:
        """Return 2 for rows that are boosted, else 1."""
        return 1 + ((ratio_N < 0) & (self.boosting and step % DOUBLED_EVERY == 0)).double()


class DiscriminatorGenerator(DenoiserGenerator):
    """A guided generator that samples as published: it takes its push out of the correction."""

    def sample_x(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        """Return one x per seed; without a push, or with another sampler, as any generator."""
        own = [push for push in gradient_pushes(self) if push.facts.get(PUBLISHED)]
        push, sampler = own[-1] if own else None, self.sampler
        if push is None or not isinstance(sampler, DiscriminatorHeun):
            return super().sample_x(seeds_N, cond)
        here = cond.to(self.denoiser.device) if cond is not None else None
        plain = DenoiserGenerator(**vars(without(self, push)))
        bound = replace(sampler, guide=lambda x, sigma_N: guided_slope(push, x, sigma_N, here))
        return plain.replace(sampler=bound).sample_x(seeds_N, cond)


def guided_slope(
    push: GradientPush, x: Tensor, sigma_N: Tensor, cond: Condition | None
) -> tuple[Tensor, Tensor]:
    """Return w sigma grad and the log-ratio, N; rows outside of the guided levels: 0 and infinity."""
    excess_N = push.strength.excess(sigma_N)
    ratio_N = torch.full_like(sigma_N, math.inf)
    rows = (excess_N != 0).nonzero().flatten()
    if not len(rows):
        return torch.zeros_like(x), ratio_N
    taken = cond.take(rows) if cond is not None else None
    value_n, direction = push.valued(x[rows], sigma_N[rows], taken)
    slope = direction * _shaped(excess_N[rows] / sigma_N[rows], x)
    return torch.zeros_like(x).index_copy(0, rows, slope.to(x)), ratio_N.index_copy(0, rows, value_n.to(x))


def _shaped(value_N: Tensor, x: Tensor) -> Tensor:
    return value_N.reshape(-1, *(1 for _ in x.shape[1:]))
