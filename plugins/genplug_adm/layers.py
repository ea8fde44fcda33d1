"""Layers of the ADM U-Net (Dhariwal and Nichol 2021, arXiv 2105.05233) by their published names.

Parameter names are those of guided-diffusion, so that its weights load with `load_state_dict(strict=True)`.

Shapes: N batch, C channels, H W grid, E embedding width, T = H*W tokens, O outputs.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug.errors import ConfigError

Resampling = Literal["keep", "up", "down"]
GROUPS = 32
M = TypeVar("M", bound=nn.Module)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return group normalisation in 32 groups, or as many as divide both 32 and the width."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def zeroed(module: M) -> M:
    """Return a module with all its parameters set to zero, so that a residual branch starts silent."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def timestep_embedding(timesteps_N: Tensor, width: int, max_period: float = 10_000) -> Tensor:
    """Return cosines, then sines, of the timesteps at geometric frequencies from 1 to 1 / max_period.

    Timesteps may be fractional. The result is float32, N x width; an odd width ends with a zero.
    """
    half = width // 2
    ramp = torch.arange(half, dtype=torch.float32, device=timesteps_N.device) / half
    angles_NF = timesteps_N.float()[:, None] * torch.exp(-math.log(max_period) * ramp)
    return F.pad(torch.cat([angles_NF.cos(), angles_NF.sin()], dim=1), (0, width % 2))


def resample(x_NCHW: Tensor, mode: Resampling) -> Tensor:
    """Double the grid by repetition ('up'), halve it by averaging ('down'), or 'keep' it."""
    if mode == "up":
        return F.interpolate(x_NCHW, scale_factor=2, mode="nearest")
    return F.avg_pool2d(x_NCHW, 2) if mode == "down" else x_NCHW


class Downsample(nn.Module):
    """Halve the grid by a strided convolution, or by averaging if it has no weights."""

    def __init__(self, channels: int, use_conv: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if use_conv else nn.AvgPool2d(2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x: Tensor = self.op(x_NCHW)
        return x


class Upsample(nn.Module):
    """Double the grid by repetition, followed by a convolution if it has weights."""

    def __init__(self, channels: int, use_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if use_conv else nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x: Tensor = self.conv(resample(x_NCHW, "up"))
        return x


class ResBlock(nn.Module):
    """Residual block that an embedding modulates; it may resample between its first norm and convolution.

    With `use_scale_shift_norm` the embedding gives scale and shift after the second normalisation
    (adaptive group normalisation, section 3.1), else it is added before it.
    """

    def __init__(
        self,
        channels: int,
        emb_channels: int,
        dropout: float,
        out_channels: int | None = None,
        use_scale_shift_norm: bool = False,
        resampling: Resampling = "keep",
    ) -> None:
        super().__init__()
        width = out_channels or channels
        self.use_scale_shift_norm, self.resampling = use_scale_shift_norm, resampling
        modulation = nn.Linear(emb_channels, 2 * width if use_scale_shift_norm else width)
        second = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.in_layers = nn.Sequential(
            group_norm(channels), nn.SiLU(), nn.Conv2d(channels, width, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), modulation)
        self.out_layers = nn.Sequential(group_norm(width), nn.SiLU(), nn.Dropout(dropout), second)
        self.skip_connection = nn.Identity() if width == channels else nn.Conv2d(channels, width, 1)

    def forward(self, x_NCHW: Tensor, emb_NE: Tensor) -> Tensor:
        norm, activation, conv = self.in_layers
        y = conv(resample(activation(norm(x_NCHW)), self.resampling))
        x: Tensor = self.skip_connection(resample(x_NCHW, self.resampling))
        return x + self._modulated(y, self.emb_layers(emb_NE)[:, :, None, None].to(y.dtype))

    def _modulated(self, y_NCHW: Tensor, modulation_NC11: Tensor) -> Tensor:
        if not self.use_scale_shift_norm:
            added: Tensor = self.out_layers(y_NCHW + modulation_NC11)
            return added
        norm, activation, dropout, conv = self.out_layers
        scale, shift = modulation_NC11.chunk(2, dim=1)
        y: Tensor = conv(dropout(activation(torch.addcmul(shift, norm(y_NCHW), 1 + scale))))
        return y


class AttentionBlock(nn.Module):
    """Self-attention over the grid's cells, added to its input.

    The 3C channels of `qkv` are ordered (head, q/k/v, c), or (q/k/v, head, c) in the new order.
    """

    def __init__(
        self, channels: int, num_heads: int, num_head_channels: int = -1, new_order: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.new_order = head_count(channels, num_heads, num_head_channels), new_order
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        tokens_NTC = self.norm(x_NCHW).flatten(2).mT
        q, k, v = split_heads(pointwise(self.qkv, tokens_NTC), self.num_heads, self.new_order)
        y_NTC = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x_NCHW + pointwise(self.proj_out, y_NTC).mT.reshape_as(x_NCHW)


class AttentionPool2d(nn.Module):
    """Attention pooling (CLIP's): the mean cell asks all cells, and the answer is projected to O numbers."""

    def __init__(
        self, spacial_dim: int, embed_dim: int, num_head_channels: int, output_dim: int | None = None
    ) -> None:
        super().__init__()
        self.num_heads = head_count(embed_dim, 1, num_head_channels)
        cells = spacial_dim**2
        self.positional_embedding = nn.Parameter(torch.randn(embed_dim, cells + 1) / math.sqrt(embed_dim))
        self.qkv_proj = nn.Conv1d(embed_dim, 3 * embed_dim, 1)
        self.c_proj = nn.Conv1d(embed_dim, output_dim or embed_dim, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        cells_NTC = x_NCHW.flatten(2).mT
        tokens_NTC = torch.cat([cells_NTC.mean(1, keepdim=True), cells_NTC], dim=1)
        tokens_NTC = tokens_NTC + self.positional_embedding.mT.to(tokens_NTC.dtype)
        q, k, v = split_heads(pointwise(self.qkv_proj, tokens_NTC), self.num_heads, new_order=True)
        mean_NC = F.scaled_dot_product_attention(q[:, :, :1], k, v).flatten(1)
        return pointwise(self.c_proj, mean_NC)


def head_count(channels: int, num_heads: int, num_head_channels: int) -> int:
    """Return the attention heads of a width: as many as asked, or as heads of a given width fill it."""
    heads = num_heads if num_head_channels == -1 else channels // num_head_channels
    if heads < 1 or channels % heads or (num_head_channels != -1 and channels % num_head_channels):
        asked = f"{num_heads} heads" if num_head_channels == -1 else f"heads of {num_head_channels} channels"
        raise ConfigError(f"{channels} channels do not divide into {asked}")
    return heads


def pointwise(conv: nn.Conv1d, tokens: Tensor) -> Tensor:
    """Apply a convolution of kernel size 1 to tokens with channels last, ...C."""
    return F.linear(tokens, conv.weight[:, :, 0], conv.bias)


def split_heads(qkv_NTC: Tensor, heads: int, new_order: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, each N x heads x T x c, of 3C channels in either order."""
    n, tokens, _ = qkv_NTC.shape
    if new_order:
        parts = qkv_NTC.reshape(n, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    else:
        parts = qkv_NTC.reshape(n, tokens, heads, 3, -1).permute(3, 0, 2, 1, 4)
    return parts[0], parts[1], parts[2]
