"""The EDM2 network: magnitude-preserving U-Net with EDM preconditioning (Karras et al. 2024, arXiv
2312.02696, Fig. 21).

Parameter names and constructor arguments are those of the published models (NVlabs/edm2), so that their
weights load with `load_state_dict(strict=True)`.

Shapes: N batch, C channels, H W grid, K classes, E embedding width, T = H*W tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug_edm2.layers import (
    SILU_SCALE,
    MPConv,
    MPFourier,
    _Memo,
    add_onto,
    force_normalize_,
    forget_folded_,
    forget_if_edited_,
    modulated_silu,
    mp_cat,
    mp_silu,
    mp_sum,
    normalize,
    resample,
    sum_weights,
)
from genplug_edm2.places import Place, decoder_places, encoder_places

__all__ = ["Block", "MPConv", "MPFourier", "Precond", "UNet", "force_normalize_", "forget_folded_"]


@dataclass(frozen=True)
class BlockOptions:
    """What all blocks of a network share; balances go from 0 (main path) to 1 (branch)."""

    resample_filter: Sequence[float] = (1, 1)
    channels_per_head: int = 64  # attention in fewer channels than one head has means none
    dropout: float = 0
    res_balance: float = 0.3
    attn_balance: float = 0.3
    clip_act: float | None = 256  # None never clips


class Block(nn.Module):
    """Residual block with optional resampling and self-attention.

    In the encoder, skip convolution and pixel norm come before the residual branch; in the decoder
    (`decodes`) the skip convolution is at the sum.
    """

    def __init__(
        self, place: Place, in_channels: int, emb_channels: int, decodes: bool, options: BlockOptions
    ) -> None:
        super().__init__()
        width, changes = place.width, place.width != in_channels
        self.place, self.decodes, self.options = place, decodes, options
        self.num_heads = width // options.channels_per_head if place.attention else 0
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = MPConv(in_channels if decodes else width, width, (3, 3))
        self.emb_linear = MPConv(emb_channels, width)
        self.conv_res1 = MPConv(width, width, (3, 3))
        self.conv_skip = MPConv(in_channels, width, (1, 1)) if changes else None
        self.attn_qkv = MPConv(width, 3 * width, (1, 1)) if self.num_heads else None
        self.attn_proj = MPConv(width, width, (1, 1)) if self.num_heads else None

    def forward(self, x_NCHW: Tensor, emb_NE: Tensor) -> Tensor:
        x = resample(x_NCHW, self.place.resample_mode, self.options.resample_filter)
        if not self.decodes:
            x = normalize(x if self.conv_skip is None else self.conv_skip(x), dim=[1])
        keep, _ = sum_weights(self.options.res_balance)
        y = self._residual(x, emb_NE)
        if self.decodes and self.conv_skip is not None:
            x = add_onto(y, self.conv_skip(x, scale=keep))
        else:
            x = add_onto(y, x, alpha=keep)
        if self.num_heads:
            x = self._attend(x)
        # In place: nothing before needs the unclipped value.
        limit = self.options.clip_act
        return x if limit is None else x.clip_(-limit, limit)

    def _residual(self, x: Tensor, emb_NE: Tensor) -> Tensor:
        """The residual branch, already weighted for the magnitude-preserving sum."""
        _, weight = sum_weights(self.options.res_balance)
        modulation_NC = self.emb_linear(emb_NE, gain=self.emb_gain) + 1
        y = self.conv_res0(F.silu(x), scale=SILU_SCALE)
        y = modulated_silu(y, modulation_NC[:, :, None, None].to(y.dtype))
        if self.training and self.options.dropout:
            y = F.dropout(y, p=self.options.dropout)
        y_NCHW: Tensor = self.conv_res1(y, scale=SILU_SCALE * weight)
        return y_NCHW

    def _attend(self, x_NCHW: Tensor) -> Tensor:
        """Cosine-like self-attention: q, k and v are normalised over the channels of each head."""
        assert self.attn_qkv is not None
        assert self.attn_proj is not None
        keep, weight = sum_weights(self.options.attn_balance)
        n, _, h, w = x_NCHW.shape
        # Channels are ordered (head, channel, q/k/v).
        qkv = self.attn_qkv(x_NCHW).reshape(n, self.num_heads, -1, 3, h * w)
        q, k, v = normalize(qkv, dim=[2]).permute(3, 0, 1, 4, 2).contiguous()
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x_NCHW.shape)
        return add_onto(self.attn_proj(y, scale=weight), x_NCHW, alpha=keep)


class UNet(nn.Module):
    """EDM2 U-Net: `x_NCHW`, noise level `c_noise_N` and class weights `labels_NK` to the raw output of x's
    shape.

    `channel_mult` gives the width of each level in units of `model_channels`; the widths of the noise
    embedding and of the final embedding default to the first and the largest of them.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        **block_options: Any,
    ) -> None:
        super().__init__()
        first = model_channels * channel_mult[0]
        noise_width = model_channels * (channel_mult_noise or channel_mult[0])
        self.emb_width = model_channels * (channel_mult_emb or max(channel_mult))
        levels = [(img_resolution >> i, model_channels * mult) for i, mult in enumerate(channel_mult)]
        self.encoder = encoder_places(levels, num_blocks, attn_resolutions)
        self.decoder = decoder_places(levels, num_blocks, attn_resolutions)
        self.stem = f"{img_resolution}x{img_resolution}_conv"
        self.label_balance, self.concat_balance = label_balance, concat_balance
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = MPFourier(noise_width)
        self.emb_noise = MPConv(noise_width, self.emb_width)
        self.emb_label = MPConv(label_dim, self.emb_width) if label_dim else None
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        self.enc[self.stem] = MPConv(img_channels + 1, first, (3, 3))
        self._fill(first, BlockOptions(**block_options))
        self.out_conv = MPConv(self.decoder[-1].width, img_channels, (3, 3))

    def _fill(self, width: int, options: BlockOptions) -> None:
        """Make the blocks; a decoder block that takes a skip has that much more input."""
        skips = [width]
        for place in self.encoder:
            self.enc[place.name] = Block(place, skips[-1], self.emb_width, False, options)
            skips.append(place.width)
        width = skips[-1]
        for place in self.decoder:
            width += skips.pop() if place.takes_skip else 0
            self.dec[place.name] = Block(place, width, self.emb_width, True, options)
            width = place.width

    def forward(self, x_NCHW: Tensor, c_noise_N: Tensor, labels_NK: Tensor | None = None) -> Tensor:
        emb_NE = self._embed(c_noise_N, labels_NK)
        # The constant channel stands in for biases.
        x = torch.cat([x_NCHW, torch.ones_like(x_NCHW[:, :1])], dim=1)
        # Channels-last suits the convolutions and the norms over channels.
        x = x.contiguous(memory_format=torch.channels_last)
        out_NCHW: Tensor = self.out_conv(self._decode(self._encode(x, emb_NE), emb_NE), gain=self.out_gain)
        return out_NCHW.contiguous()

    def _encode(self, x: Tensor, emb_NE: Tensor) -> list[Tensor]:
        """Return the output of the first convolution and of every encoder block."""
        outputs = [self.enc[self.stem](x)]
        for place in self.encoder:
            outputs.append(self.enc[place.name](outputs[-1], emb_NE))
        return outputs

    def _decode(self, skips: list[Tensor], emb_NE: Tensor) -> Tensor:
        """Return the output of the last decoder block; uses up the skips, latest first."""
        x = skips[-1]
        for place in self.decoder:
            if place.takes_skip:
                x = mp_cat(x, skips.pop(), t=self.concat_balance)
            x = self.dec[place.name](x, emb_NE)
        return x

    def _embed(self, c_noise_N: Tensor, labels_NK: Tensor | None) -> Tensor:
        emb_NE: Tensor = self.emb_noise(self.emb_fourier(c_noise_N))
        if self.emb_label is not None:
            if labels_NK is None:
                labels_NK = emb_NE.new_zeros(1, self.emb_label.weight.shape[1])
            label_NE = self.emb_label(labels_NK, scale=math.sqrt(labels_NK.shape[1]))
            emb_NE = mp_sum(emb_NE, label_NE, self.label_balance)
        return mp_silu(emb_NE)


class Precond(nn.Module):
    """EDM preconditioning around the U-Net and the uncertainty u(sigma) of the loss (Equation 21).

    D(x; sigma) = c_skip x + c_out F(c_in x, ln(sigma)/4) estimates E[clean | clean + sigma * noise = x].
    `use_fp16` runs the U-Net at half precision on accelerators only.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        use_fp16: bool = True,
        sigma_data: float = 0.5,
        logvar_channels: int = 128,
        **unet_kwargs: Any,
    ) -> None:
        super().__init__()
        self.label_dim, self.use_fp16, self.sigma_data = label_dim, use_fp16, sigma_data
        self.unet = UNet(img_resolution, img_channels, label_dim, **unet_kwargs)
        self.logvar_fourier = MPFourier(logvar_channels)
        self.logvar_linear = MPConv(logvar_channels, 1)
        self._memo = _Memo()

    def forward(
        self,
        x_NCHW: Tensor,
        sigma_N: Tensor,
        labels_NK: Tensor | None = None,
        force_fp32: bool = False,
        return_logvar: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Denoise; with `return_logvar` return (D_NCHW, logvar_N111).

        `sigma_N` may hold one level for all; `labels_NK` are one-hot or soft weights, None for no label.
        """
        x_NCHW = x_NCHW.float()
        sigma = sigma_N.float().reshape(-1, 1, 1, 1)
        total = sigma**2 + self.sigma_data**2  # variance of the noisy x
        c_skip, c_out = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        D_NCHW = c_skip * x_NCHW + c_out * self.raw(x_NCHW, sigma, labels_NK, force_fp32).float()
        return (D_NCHW, self.logvar(sigma)) if return_logvar else D_NCHW

    def raw(
        self, x_NCHW: Tensor, sigma_N: Tensor, labels_NK: Tensor | None = None, force_fp32: bool = False
    ) -> Tensor:
        """The U-Net's output F(c_in x, c_noise), before output preconditioning."""
        if not self.training and not torch.is_grad_enabled():
            forget_if_edited_(self, self._memo)
        sigma = sigma_N.float().reshape(-1, 1, 1, 1)
        c_in = 1 / (self.sigma_data**2 + sigma**2).sqrt()
        half = self.use_fp16 and not force_fp32 and x_NCHW.device.type == "cuda"
        x_in = (c_in * x_NCHW.float()).to(torch.float16 if half else torch.float32)
        if labels_NK is not None:
            labels_NK = labels_NK.float().reshape(-1, self.label_dim) if self.label_dim else None
        F_NCHW: Tensor = self.unet(x_in, sigma.flatten().log() / 4, labels_NK)
        return F_NCHW

    def logvar(self, sigma_N: Tensor) -> Tensor:
        """Logarithm of the predicted loss at each noise level, N111 (Equation 21)."""
        c_noise_N = sigma_N.float().flatten().log() / 4
        logvar_N1: Tensor = self.logvar_linear(self.logvar_fourier(c_noise_N))
        return logvar_N1.reshape(-1, 1, 1, 1)
