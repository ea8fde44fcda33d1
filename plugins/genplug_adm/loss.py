"""The training losses of discrete-time diffusion (Nichol and Dhariwal 2021, arXiv 2102.09672).

Shapes: N batch, C channels, H W pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genplug_adm.diffusion import Diffusion, Moments, spread_rows

HALF_BIN = 1 / 255  # half the distance of two grey levels in [-1, 1]
SMALLEST = 1e-12  # probability


def hybrid_loss(
    process: Diffusion, output: Tensor, x0: Tensor, t: Tensor, noise: Tensor, learn_sigma: bool
) -> Tensor:
    """Return L_simple, with learned variances L_simple + L_vlb / 1000 (equation 16), summed over x: N.

    `output` is the network's at x_t = q_sample(x0, t, noise). L_vlb is T times its term at t, in bits, and
    trains the variances alone: the mean is held fixed in it.
    """
    eps, channels = output[:, : x0.shape[1]], x0.shape[1]
    simple_N = (eps - noise).square().flatten(1).sum(1)
    if not learn_sigma:
        return simple_N
    held = torch.cat([eps.detach(), output[:, channels:]], dim=1)
    x_t = process.q_sample(x0, t, noise)
    moments = process.moments(held, x_t, t, "learned", clip=False)
    bits_N = variational_term(process, moments, x0, x_t, t).flatten(1).sum(1) / math.log(2)
    return simple_N + len(process.betas) / 1000 * bits_N


def variational_term(process: Diffusion, moments: Moments, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return each element's term of the variational bound at t, in nats, NCHW (equations 5 to 7).

    It is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)); at t = 0, -ln p(x_0 | x_1) of 8-bit grey levels.
    """
    log_q = process.log_variance("fixed-small", t, x_t)
    distance = (process.posterior_mean(x0, x_t, t) - moments.mean).square()
    log_p = moments.log_variance
    kl = 0.5 * (log_p - log_q - 1 + (log_q - log_p).exp() + distance * (-log_p).exp())
    last = -grey_level_log_prob(x0, moments.mean, 0.5 * log_p)
    return torch.where(spread_rows(t == 0, x0) > 0, last, kl)


def grey_level_log_prob(x0: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return ln of the mass that a normal distribution has in each element's grey level (of 256 in [-1, 1]).

    The outermost levels reach to infinity.
    """
    above = torch.special.ndtr((x0 + HALF_BIN - mean) * (-log_std).exp())
    below = torch.special.ndtr((x0 - HALF_BIN - mean) * (-log_std).exp())
    above = torch.where(x0 > 1 - HALF_BIN, 1.0, above)
    below = torch.where(x0 < -1 + HALF_BIN, 0.0, below)
    return (above - below).clamp(min=SMALLEST).log()
