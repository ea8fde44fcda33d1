"""The EDM2 network: magnitude-preserving U-Net with EDM preconditioning (Karras et al. 2024, arXiv
2312.02696, Fig. 21).

Parameter names and constructor arguments are those of the published models (NVlabs/edm2), so that their
weights load with `load_state_dict(strict=True)`.

Shapes: N batch, C channels, H W grid, K classes, E embedding width, T = H*W tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

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

__all__ = ["Block", "MPConv", "MPFourier", "Precond", "UNet", "force_normalize_", "forget_folded_"]


class Block(nn.Module):
    """Residual block with optional resampling and self-attention.

    `flavor` 'enc' applies the skip convolution and pixel norm before the residual branch, 'dec' applies the
    skip convolution at the sum. `attention` with fewer than `channels_per_head` channels means no attention.
    `resample_mode` is 'keep', 'up' or 'down'; balances go from 0 (main path) to 1 (branch); `clip_act` None
    never clips.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        flavor: Literal["enc", "dec"] = "enc",
        resample_mode: Literal["keep", "up", "down"] = "keep",
        resample_filter: Sequence[float] = (1, 1),
        attention: bool = False,
        channels_per_head: int = 64,
        dropout: float = 0,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float | None = 256,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.flavor = flavor
        self.resample_mode = resample_mode
        self.resample_filter = tuple(resample_filter)
        self.num_heads = out_channels // channels_per_head if attention else 0
        self.dropout = dropout
        self.res_balance = res_balance
        self.attn_balance = attn_balance
        self.clip_act = clip_act
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = MPConv(out_channels if flavor == "enc" else in_channels, out_channels, (3, 3))
        self.emb_linear = MPConv(emb_channels, out_channels)
        self.conv_res1 = MPConv(out_channels, out_channels, (3, 3))
        self.conv_skip = MPConv(in_channels, out_channels, (1, 1)) if in_channels != out_channels else None
        self.attn_qkv = MPConv(out_channels, out_channels * 3, (1, 1)) if self.num_heads else None
        self.attn_proj = MPConv(out_channels, out_channels, (1, 1)) if self.num_heads else None

    def forward(self, x_NCHW: Tensor, emb_NE: Tensor) -> Tensor:
        x = resample(x_NCHW, self.resample_mode, self.resample_filter)
        if self.flavor == "enc":
            x = normalize(x if self.conv_skip is None else self.conv_skip(x), dim=[1])
        keep, _ = sum_weights(self.res_balance)
        y = self._residual(x, emb_NE)
        if self.flavor == "dec" and self.conv_skip is not None:
            x = add_onto(y, self.conv_skip(x, scale=keep))
        else:
            x = add_onto(y, x, alpha=keep)
        if self.num_heads:
            x = self._attend(x)
        # In place: nothing before needs the unclipped value.
        return x if self.clip_act is None else x.clip_(-self.clip_act, self.clip_act)

    def _residual(self, x: Tensor, emb_NE: Tensor) -> Tensor:
        """The residual branch, already weighted for the magnitude-preserving sum."""
        _, weight = sum_weights(self.res_balance)
        modulation_NC = self.emb_linear(emb_NE, gain=self.emb_gain) + 1
        y = self.conv_res0(F.silu(x), scale=SILU_SCALE)
        y = modulated_silu(y, modulation_NC[:, :, None, None].to(y.dtype))
        if self.training and self.dropout:
            y = F.dropout(y, p=self.dropout)
        y_NCHW: Tensor = self.conv_res1(y, scale=SILU_SCALE * weight)
        return y_NCHW

    def _attend(self, x_NCHW: Tensor) -> Tensor:
        """Cosine-like self-attention: q, k and v are normalised over the channels of each head."""
        assert self.attn_qkv is not None
        assert self.attn_proj is not None
        keep, weight = sum_weights(self.attn_balance)
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
        **block_kwargs: Any,
    ) -> None:
        super().__init__()
        widths = [model_channels * m for m in channel_mult]
        noise_width = widths[0] if channel_mult_noise is None else model_channels * channel_mult_noise
        emb_width = max(widths) if channel_mult_emb is None else model_channels * channel_mult_emb
        levels = [(img_resolution >> level, width) for level, width in enumerate(widths)]
        self.label_balance = label_balance
        self.concat_balance = concat_balance
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = MPFourier(noise_width)
        self.emb_noise = MPConv(noise_width, emb_width)
        self.emb_label = MPConv(label_dim, emb_width) if label_dim else None

        def block(cin: int, cout: int, res: int = 0, **kwargs: Any) -> Block:
            kwargs.setdefault("attention", res in attn_resolutions)
            return Block(cin, cout, emb_width, **kwargs, **block_kwargs)

        self.enc = nn.ModuleDict()
        self.enc[f"{img_resolution}x{img_resolution}_conv"] = MPConv(img_channels + 1, widths[0], (3, 3))
        cout, skips = widths[0], [widths[0]]
        for level, (res, width) in enumerate(levels):
            if level > 0:
                self.enc[f"{res}x{res}_down"] = block(cout, cout, flavor="enc", resample_mode="down")
                skips.append(cout)
            for i in range(num_blocks):
                self.enc[f"{res}x{res}_block{i}"] = block(cout, width, res, flavor="enc")
                cout = width
                skips.append(cout)

        self.dec = nn.ModuleDict()
        for level, (res, width) in reversed(list(enumerate(levels))):
            if level == len(levels) - 1:
                self.dec[f"{res}x{res}_in0"] = block(cout, cout, flavor="dec", attention=True)
                self.dec[f"{res}x{res}_in1"] = block(cout, cout, flavor="dec")
            else:
                self.dec[f"{res}x{res}_up"] = block(cout, cout, flavor="dec", resample_mode="up")
            for i in range(num_blocks + 1):
                self.dec[f"{res}x{res}_block{i}"] = block(cout + skips.pop(), width, res, flavor="dec")
                cout = width
        self.out_conv = MPConv(cout, img_channels, (3, 3))

    def forward(self, x_NCHW: Tensor, c_noise_N: Tensor, labels_NK: Tensor | None = None) -> Tensor:
        emb_NE = self._embed(c_noise_N, labels_NK)
        # The constant channel stands in for biases.
        x = torch.cat([x_NCHW, torch.ones_like(x_NCHW[:, :1])], dim=1)
        # Channels-last suits the convolutions and the norms over channels.
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for name, block in self.enc.items():
            x = block(x) if name.endswith("_conv") else block(x, emb_NE)
            skips.append(x)
        for name, block in self.dec.items():
            if "block" in name:
                x = mp_cat(x, skips.pop(), t=self.concat_balance)
            x = block(x, emb_NE)
        out_NCHW: Tensor = self.out_conv(x, gain=self.out_gain)
        return out_NCHW.contiguous()

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
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.label_dim = label_dim
        self.use_fp16 = use_fp16
        self.sigma_data = sigma_data
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
        c_skip = self.sigma_data**2 / (sigma**2 + self.sigma_data**2)
        c_out = sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()
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
