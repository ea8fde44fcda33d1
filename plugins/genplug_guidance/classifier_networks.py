"""Classifiers of noised x: logits(x, sigma), where x = clean + sigma * noise as in EDM.

Every network sees x scaled to about unit size and the level as c = ln(sigma) / 4, so that one of them
serves all levels. Legend: N rows, C channels, H W pixels or latent grid, K logits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug.errors import ConfigError
from genplug_toy.networks import PointMlp

if TYPE_CHECKING:
    from genplug_guidance.gradient_config import NetworkConfig

#: Images smaller than this get the small convolutional network.
SMALL = 32
_LOWEST = 1e-6  # of sigma, where it stands in a logarithm
_OCTAVES = 4  # of the sines and cosines of c


class Network(Protocol):
    """What all of them are called with."""

    def __call__(self, x: Tensor, sigma_N: Tensor) -> Tensor:
        """Return logits NK."""


def make_network(config: NetworkConfig, x_shape: tuple[int, ...], logits: int, seed: int) -> nn.Module:
    """Build a network with random weights that depend on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _make(kind_for(config, x_shape), config, x_shape, logits).eval().requires_grad_(False)


def kind_for(config: NetworkConfig, x_shape: tuple[int, ...]) -> str:
    """Return the kind of network that a configuration means for x of a shape."""
    if config.kind == "auto":
        return "mlp" if len(x_shape) != 3 else "cnn" if min(x_shape[1:]) < SMALL else "unet"
    if config.kind in ("cnn", "unet") and len(x_shape) != 3:
        raise ConfigError(
            f"a classifier of kind {config.kind!r} takes images, not x of shape {x_shape}; "
            "set objective.network.kind to mlp, linear or auto"
        )
    return config.kind


def _make(kind: str, config: NetworkConfig, x_shape: tuple[int, ...], logits: int) -> nn.Module:
    if kind == "linear":
        return Linear(math.prod(x_shape), logits)
    if kind == "mlp":
        return Mlp(math.prod(x_shape), logits, config.width or 128, config.depth or 3, config.octaves)
    if kind == "cnn":
        return Cnn(x_shape, logits, config.width or 64, config.depth or 1)
    from genplug_guidance.adm_classifier import adm_classifier

    return adm_classifier(config, x_shape, logits)


def noise_scale(sigma_N: Tensor) -> Tensor:
    """Return c_noise = ln(sigma) / 4, N."""
    return sigma_N.clamp(min=_LOWEST).log() / 4


def unit_sized(x: Tensor, sigma_N: Tensor) -> Tensor:
    """Return x / sqrt(1 + sigma^2): the variance-preserving x_t of data of about unit size."""
    scale_N = (1 + sigma_N**2).rsqrt()
    return x * scale_N.reshape(-1, *(1 for _ in x.shape[1:]))


class Linear(nn.Module):
    """One linear layer on (x, t), side by side (arXiv 2503.10638): its boundary is flat at all levels."""

    def __init__(self, dim: int, logits: int) -> None:
        super().__init__()
        self.layer = nn.Linear(dim + 1, logits)

    def forward(self, x: Tensor, sigma_N: Tensor) -> Tensor:
        """Return logits NK."""
        parts = [unit_sized(x, sigma_N).flatten(1), noise_scale(sigma_N)[:, None]]
        logits_NK: Tensor = self.layer(torch.cat(parts, 1))
        return logits_NK


class Mlp(nn.Module):
    """A multilayer perceptron of flat x and the level."""

    def __init__(self, dim: int, logits: int, width: int, depth: int, octaves: int) -> None:
        super().__init__()
        self.net = PointMlp(dim, logits, width, depth, octaves)

    def forward(self, x: Tensor, sigma_N: Tensor) -> Tensor:
        """Return logits NK."""
        logits_NK: Tensor = self.net(unit_sized(x, sigma_N).flatten(1), noise_scale(sigma_N))
        return logits_NK


class Cnn(nn.Module):
    """Residual blocks with FiLM on the level, halving the grid down to 4, then the mean over it."""

    def __init__(self, x_shape: tuple[int, ...], logits: int, width: int, depth: int) -> None:
        super().__init__()
        channels, side = x_shape[0], min(x_shape[1:])
        levels = max(1, round(math.log2(max(side, 4) / 4)) + 1)
        widths = [width * min(2**level, 4) for level in range(levels)]
        self.level = nn.Sequential(nn.Linear(1 + 2 * _OCTAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        pairs = zip([width, *widths[:-1]], widths, strict=True)
        self.stages = nn.ModuleList(
            nn.ModuleList(_Block(before if i == 0 else after, after, width) for i in range(depth))
            for before, after in pairs
        )
        self.last = nn.Linear(widths[-1], logits)

    def forward(self, x: Tensor, sigma_N: Tensor) -> Tensor:
        """Return logits NK."""
        emb_NC = self.level(_waves(noise_scale(sigma_N)))
        h = self.first(unit_sized(x, sigma_N))
        for number, stage in enumerate(self.stages):
            if number:
                h = F.avg_pool2d(h, 2)
            for block in stage:  # type: ignore[attr-defined]
                h = block(h, emb_NC)
        logits_NK: Tensor = self.last(F.silu(h).mean((2, 3)))
        return logits_NK


class _Block(nn.Module):
    """h + conv(silu(norm(conv(silu(h))) * (1 + a) + b)), a and b linear in the level's embedding."""

    def __init__(self, before: int, after: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm = nn.GroupNorm(math.gcd(8, after), after)
        self.film = nn.Linear(width, 2 * after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, h: Tensor, emb_NC: Tensor) -> Tensor:
        gain_N2C = self.film(emb_NC)[:, :, None, None]
        a, b = gain_N2C.chunk(2, 1)
        inner = self.conv2(F.silu(self.norm(self.conv1(F.silu(h))) * (1 + a) + b))
        result: Tensor = self.skip(h) + inner
        return result


def _waves(c_N: Tensor) -> Tensor:
    """Return c beside sin and cos of pi 2^j c."""
    angles_NJ = c_N[:, None] * (math.pi * 2.0 ** torch.arange(_OCTAVES, device=c_N.device))
    return torch.cat([c_N[:, None], angles_NJ.sin(), angles_NJ.cos()], 1)
