"""Multilayer perceptrons of points: for denoisers, classifiers and velocity fields alike.

Legend: N rows, D dimensions of a point, C width of the condition.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn


class PointMlp(nn.Module):
    """A SiLU MLP of a point x, a scalar such as a noise level or a time, and perhaps a condition.

    The first layer sees, side by side: x; sin and cos of pi 2^j x for j < `octaves`, with which fine
    detail can be learnt; the scalar, with its own `noise_octaves`; and the condition. `depth` hidden
    layers of `width` follow, and a linear layer to `dim_out`.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        width: int,
        depth: int,
        octaves: int = 0,
        cond_width: int = 0,
        noise_octaves: int = 2,
    ) -> None:
        super().__init__()
        self.octaves, self.noise_octaves, self.cond_width = octaves, noise_octaves, cond_width
        seen = dim_in * (1 + 2 * octaves) + 1 + 2 * noise_octaves + cond_width
        widths = [seen, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.out = nn.Linear(widths[-1], dim_out)

    def forward(self, x_ND: Tensor, c_noise_N: Tensor, cond_NC: Tensor | None = None) -> Tensor:
        """Return N x dim_out; an absent condition is the zero vector.

        `c_noise_N` should be of order one, such as ln(sigma) / 4 or a time in [0, 1].
        """
        parts = [waves(x_ND, self.octaves), waves(c_noise_N[:, None].to(x_ND), self.noise_octaves)]
        if self.cond_width:
            parts.append(x_ND.new_zeros(len(x_ND), self.cond_width) if cond_NC is None else cond_NC)
        h = torch.cat(parts, dim=1)
        for layer in self.hidden:
            h = nn.functional.silu(layer(h))
        out: Tensor = self.out(h)
        return out


def waves(x_ND: Tensor, octaves: int) -> Tensor:
    """Return x with sin and cos of pi 2^j x for j < octaves, N x D (1 + 2 octaves)."""
    angles = [x_ND * (math.pi * 2**j) for j in range(octaves)]
    return torch.cat([x_ND, *(f(angle) for angle in angles for f in (torch.sin, torch.cos))], dim=1)
