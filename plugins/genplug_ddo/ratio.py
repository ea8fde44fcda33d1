"""The log-ratio ln p_theta(x) - ln p_ref(x) that DDO uses as the discriminator's logit.

Exact for a `likelihood`. For a `denoiser` it is estimated at one noise level and noise draw per
row, the same for theta and ref and the same for a real row and its generated partner
(equations 14 to 16): Delta = -lambda(sigma) (||D_theta - x||^2 - ||D_ref - x||^2), summed over x.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource


def log_ratio(
    theta: Any, ref: Any, x: Tensor, cond: Condition | None, draws: NoiseSource, spec: NoiseSpec | None
) -> Tensor:
    """Return Delta per row in nats.

    x holds as many generated rows as real ones behind each other; `draws` has one stream per
    pair. theta sees all rows in one forward, since networks that rewrite their weights in
    training break autograd across two.
    """
    if "likelihood" in theta.provides:
        with torch.no_grad():
            ref_N = ref.log_prob(x, cond)
        likelihood_ratio: Tensor = theta.log_prob(x, cond) - ref_N
        return likelihood_ratio
    if spec is None:
        raise ValueError("a denoiser's log-ratio needs its noise levels")
    pairs = len(draws)
    sigma_N = spec.draw(draws).repeat(len(x) // pairs)
    noise = draws.normal((pairs, *x.shape[1:]), "noise").repeat(len(x) // pairs, *(1 for _ in x.shape[1:]))
    noisy = x + sigma_N.reshape(-1, *(1 for _ in x.shape[1:])) * noise
    with torch.no_grad():
        ref_N = _squared_error(ref, noisy, x, sigma_N, cond)
    return -spec.weight(sigma_N) * (_squared_error(theta, noisy, x, sigma_N, cond) - ref_N)


def training_levels(generator: Any, log_mean: float | None, log_std: float | None) -> NoiseSpec | None:
    """Return the noise levels to train at: the generator's own, with a changed distribution of ln sigma."""
    if "denoiser" not in generator.provides:
        return None
    spec: NoiseSpec = generator.noise
    mean = spec.log_mean if log_mean is None else log_mean
    return replace(spec, log_mean=mean, log_std=spec.log_std if log_std is None else log_std)


def _squared_error(model: Any, noisy: Tensor, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
    error_N: Tensor = (model.denoise(noisy, sigma_N, cond) - x).square().flatten(1).sum(1)
    return error_N
