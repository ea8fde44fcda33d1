"""The variance-preserving time of discriminator guidance (Kim et al. 2023) and EDM's sigma.

beta(t) = b0 + (b1 - b0) t; x_vp = x / sqrt(1 + sigma^2); sigma^2 = exp(B(t)) - 1, B the integral of beta.
"""

from __future__ import annotations

import math

B0, B1 = 0.1, 20.0

#: Times at which the published discriminator is trained.
TIME_RANGE = (1e-5, 1.0)


def time_of_sigma(sigma: float) -> float:
    """Return tau(sigma) = (-b0 + sqrt(b0^2 + 2 (b1 - b0) ln(1 + sigma^2))) / (b1 - b0)."""
    return (-B0 + math.sqrt(B0**2 + 2 * (B1 - B0) * math.log1p(sigma**2))) / (B1 - B0)


def sigma_of_time(time: float) -> float:
    """Return the sigma of a time: the inverse."""
    return math.sqrt(math.expm1(B0 * time + (B1 - B0) * time**2 / 2))
