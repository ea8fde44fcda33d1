"""Gaussian diffusion in discrete time: posteriors, ancestral and DDIM steps, guidance (arXiv 2105.05233).

Equation numbers are those of Nichol and Dhariwal 2021 (arXiv 2102.09672), unless another paper is named.
x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise; the network predicts that noise, and perhaps v, which says
where between its two bounds the variance of a step lies.

Shapes: N batch, C channels, H W grid; t int64 N counts the steps of this (perhaps shortened) process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from genplug_adm.respacing import kept_timesteps
from genplug_adm.schedule import ADM_STEPS, ScheduleName, betas

Variance = Literal["learned", "fixed-large", "fixed-small"]
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Moments:
    """One step's normal distribution p(x_{t-1} | x_t), and the clean x_0 that its mean rests on."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor
    x0: Tensor


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A process of T steps: their variances, and the timestep that the network knows each by."""

    betas: Array  # T
    timesteps: tuple[int, ...]  # of the process that the network was trained on
    trained_steps: int
    rescale_timesteps: bool = False

    @classmethod
    def of(
        cls,
        schedule: ScheduleName,
        steps: int = 1000,
        spacing: str | Sequence[int] = "",
        rescale_timesteps: bool = False,
    ) -> Diffusion:
        """Return the process of a schedule; `spacing` keeps some of its steps (`respacing`)."""
        beta = betas(schedule, steps)
        whole = cls(beta, tuple(range(steps)), steps, rescale_timesteps)
        if not spacing:
            return whole
        kept = kept_timesteps(steps, spacing)
        abar = whole.alphas_cumprod[kept]
        return cls(1 - abar / np.append(1.0, abar[:-1]), tuple(kept), steps, rescale_timesteps)

    @cached_property
    def alphas_cumprod(self) -> Array:
        """The share of x_0 that is left in x_t, as variance: abar_t."""
        abar: Array = (1 - self.betas).cumprod()
        return abar

    @cached_property
    def alphas_cumprod_prev(self) -> Array:
        """abar_{t-1}, 1 before the first step."""
        before: Array = np.append(1.0, self.alphas_cumprod[:-1])
        return before

    @cached_property
    def posterior_variance(self) -> Array:
        """The variance of q(x_{t-1} | x_t, x_0) (equation 10)."""
        variance: Array = self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        return variance

    @cached_property
    def posterior_log_variance_clipped(self) -> Array:
        """Its logarithm; the first, which would be -inf, is the second's."""
        clipped: Array = np.append(self.posterior_variance[1], self.posterior_variance[1:])
        return np.log(clipped)

    @cached_property
    def posterior_mean_coef1(self) -> Array:
        """The weight of x_0 in the mean of q(x_{t-1} | x_t, x_0) (equation 11)."""
        weight: Array = self.betas * np.sqrt(self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        return weight

    @cached_property
    def posterior_mean_coef2(self) -> Array:
        """The weight of x_t in it."""
        weight: Array = np.sqrt(1 - self.betas) * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        return weight

    def model_timesteps(self, t: Tensor) -> Tensor:
        """Return what the network gets for each t: the original timestep, or that scaled to 1000 as float."""
        original = torch.tensor(self.timesteps, device=t.device)[t]
        return original.float() * (ADM_STEPS / self.trained_steps) if self.rescale_timesteps else original

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t of clean x_0 and unit normal noise (equation 8)."""
        abar = self.alphas_cumprod
        return at(np.sqrt(abar), t, x0) * x0 + at(np.sqrt(1 - abar), t, x0) * noise

    def posterior_mean(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the mean of q(x_{t-1} | x_t, x_0) (equation 11)."""
        return at(self.posterior_mean_coef1, t, x_t) * x0 + at(self.posterior_mean_coef2, t, x_t) * x_t

    def x0_of_eps(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Return the clean x_0 that x_t has under a predicted noise."""
        abar = self.alphas_cumprod
        return at(np.sqrt(1 / abar), t, x_t) * x_t - at(np.sqrt(1 / abar - 1), t, x_t) * eps

    def eps_of_x0(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """Return the noise that x_t has under a predicted x_0."""
        abar = self.alphas_cumprod
        return (at(np.sqrt(1 / abar), t, x_t) * x_t - x0) / at(np.sqrt(1 / abar - 1), t, x_t)

    def moments(
        self, output: Tensor, x_t: Tensor, t: Tensor, variance: Variance, clip: bool = True
    ) -> Moments:
        """Return p(x_{t-1} | x_t) of a network's output: noise, and v if the variance is learned.

        `clip` brings the predicted x_0 into [-1, 1] first.
        """
        channels = x_t.shape[1]
        x0 = self.x0_of_eps(x_t, t, output[:, :channels])
        x0 = x0.clamp(-1, 1) if clip else x0
        log_variance = self.log_variance(variance, t, output[:, channels:] if variance == "learned" else x_t)
        value = log_variance.exp()
        if variance == "fixed-small":  # its logarithm is clipped: the last step has none
            value = at(self.posterior_variance, t, x_t).expand(x_t.shape)
        return Moments(self.posterior_mean(x0, x_t, t), value, log_variance, x0)

    def log_variance(self, variance: Variance, t: Tensor, v: Tensor) -> Tensor:
        """Return ln of a step's variance, in v's shape: beta_t or the posterior's, or learned between them.

        The learned one interpolates their logarithms: v = 1 is beta_t, v = -1 the posterior's (equation 15).
        """
        low = at(self.posterior_log_variance_clipped, t, v).expand(v.shape)
        if variance == "fixed-small":
            return low
        if variance == "learned":
            return torch.lerp(low, at(np.log(self.betas), t, v).expand(v.shape), (v + 1) / 2)
        first = np.append(self.posterior_variance[1], self.betas[1:])
        return at(np.log(first), t, v).expand(v.shape)

    def ancestral_step(
        self, moments: Moments, t: Tensor, noise: Tensor, mean: Tensor | None = None
    ) -> Tensor:
        """Draw x_{t-1} of a step's distribution, or of one with another mean; t = 0 gives the mean itself."""
        moved = spread_rows(t > 0, noise)
        return (moments.mean if mean is None else mean) + moved * (0.5 * moments.log_variance).exp() * noise

    def ddim_step(self, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor, eta: float = 0.0) -> Tensor:
        """Return x_{t-1} by DDIM (Song et al. 2020, equations 12 and 16) from a predicted x_0.

        The noise direction comes from that x_0, clipped and guided as it may be.
        """
        eps = self.eps_of_x0(x_t, t, x0)
        abar, before = at(self.alphas_cumprod, t, x_t), at(self.alphas_cumprod_prev, t, x_t)
        spread = eta * ((1 - before) / (1 - abar)).sqrt() * (1 - abar / before).sqrt()
        moved = spread_rows(t > 0, noise)
        return x0 * before.sqrt() + (1 - before - spread**2).sqrt() * eps + moved * spread * noise

    def guided_mean(self, moments: Moments, gradient: Tensor) -> Tensor:
        """Return the mean shifted by Sigma grad ln p(y | x_t) (arXiv 2105.05233, algorithm 1)."""
        return moments.mean + moments.variance * gradient

    def guided_score(self, moments: Moments, x_t: Tensor, t: Tensor, gradient: Tensor) -> Moments:
        """Return the moments whose noise is eps - sqrt(1 - abar) grad ln p(y | x_t) (there, algorithm 2).

        The x_0 that follows is not clipped again.
        """
        eps = self.eps_of_x0(x_t, t, moments.x0) - at(np.sqrt(1 - self.alphas_cumprod), t, x_t) * gradient
        x0 = self.x0_of_eps(x_t, t, eps)
        return Moments(self.posterior_mean(x0, x_t, t), moments.variance, moments.log_variance, x0)


def at(values: Array, t: Tensor, like: Tensor) -> Tensor:
    """Return the value of each row's step, N111 in the precision of `like`."""
    return spread_rows(torch.from_numpy(values).to(like.device)[t], like)


def spread_rows(values_N: Tensor, like: Tensor) -> Tensor:
    """Return one value per row as N111, in the precision of `like`."""
    return values_N.to(like.dtype).reshape(-1, *(1 for _ in like.shape[1:]))
