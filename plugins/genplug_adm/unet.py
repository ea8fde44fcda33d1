"""The ADM U-Net and its encoder half as a classifier (Dhariwal and Nichol 2021, arXiv 2105.05233).

Constructor arguments and parameter names are those of guided-diffusion's `UNetModel` and
`EncoderUNetModel`. Resolutions with attention are given as factors: 2 means half the image's size.

    net = UNetModel(image_size=32, in_channels=3, model_channels=128, out_channels=3, num_res_blocks=4,
                    attention_resolutions=(2,), channel_mult=(1, 2, 2, 2), num_head_channels=64)
    velocity_NCHW = net(x_NCHW, timesteps_N)

Shapes: N batch, C channels, H W grid, E embedding width, K classes, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genplug_adm.layers import (
    AttentionBlock,
    AttentionPool2d,
    Downsample,
    Resampling,
    ResBlock,
    Upsample,
    group_norm,
    timestep_embedding,
    zeroed,
)

Pool = Literal["attention", "adaptive", "spatial"]
SPATIAL_WIDTH = 2048


@dataclass(frozen=True)
class Blocks:
    """What all blocks of a network share, and how blocks are made of it.

    num_heads                attention heads, unless num_head_channels gives their width; the way up may
                             have another number, num_heads_upsample
    conv_resample            resampling layers have a convolution; resblock_updown makes them residual blocks
    use_scale_shift_norm     the embedding scales and shifts in residual blocks, instead of being added
    use_checkpoint           compute activations again in the backward pass, to save memory
    """

    emb_channels: int
    attention_resolutions: frozenset[int]
    dropout: float = 0.0
    conv_resample: bool = True
    use_checkpoint: bool = False
    num_heads: int = 1
    num_head_channels: int = -1
    num_heads_upsample: int = -1
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    use_new_attention_order: bool = False

    def residual(self, channels: int, out_channels: int | None = None, mode: Resampling = "keep") -> ResBlock:
        """Return a residual block."""
        return ResBlock(
            channels, self.emb_channels, self.dropout, out_channels, self.use_scale_shift_norm, mode
        )

    def attention(self, channels: int, upwards: bool = False) -> AttentionBlock:
        """Return an attention block; on the way up it may have heads of another number."""
        heads = self.num_heads_upsample if upwards and self.num_heads_upsample != -1 else self.num_heads
        return AttentionBlock(channels, heads, self.num_head_channels, self.use_new_attention_order)

    def resampling(self, channels: int, mode: Literal["up", "down"]) -> nn.Module:
        """Return what changes the grid: a residual block, or a layer of its own."""
        if self.resblock_updown:
            return self.residual(channels, mode=mode)
        layer = Upsample if mode == "up" else Downsample
        return layer(channels, self.conv_resample)

    def stage(self, *layers: nn.Module) -> Stage:
        """Return layers that run one after another."""
        return Stage(layers, self.use_checkpoint)


class Stage(nn.ModuleList):
    """Layers in a row; those that are modulated get the embedding."""

    def __init__(self, layers: Sequence[nn.Module], use_checkpoint: bool) -> None:
        super().__init__(layers)
        self.use_checkpoint = use_checkpoint

    def forward(self, x_NCHW: Tensor, emb_NE: Tensor) -> Tensor:
        """Run the layers; with checkpointing, activations are computed again for the gradient."""
        if self.use_checkpoint and torch.is_grad_enabled():
            again: Tensor = checkpoint(self._run, x_NCHW, emb_NE, use_reentrant=False)
            return again
        return self._run(x_NCHW, emb_NE)

    def _run(self, x: Tensor, emb_NE: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, emb_NE) if isinstance(layer, ResBlock) else layer(x)
        return x


class Encoder(nn.Module):
    """What both networks share: time embedding, the way down, and the middle.

    image_size               side of the image, which must halve once per level after the first
    model_channels           base width; level i has channel_mult[i] times as many channels
    attention_resolutions    factors of downsampling at which there is attention, besides the middle
    use_fp16                 half precision inside the network, on accelerators only
    options                  the options of `Blocks`
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: int,
        attention_resolutions: Sequence[int],
        dropout: float = 0.0,
        channel_mult: Sequence[float] = (1, 2, 4, 8),
        use_fp16: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.image_size, self.model_channels, self.use_fp16 = image_size, model_channels, use_fp16
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_res_blocks = num_res_blocks
        self.level_widths = [int(mult * model_channels) for mult in channel_mult]
        self.blocks = Blocks(4 * model_channels, frozenset(attention_resolutions), dropout, **options)
        E = self.blocks.emb_channels
        self.time_embed = nn.Sequential(nn.Linear(model_channels, E), nn.SiLU(), nn.Linear(E, E))
        self.input_blocks, self.skip_widths = self._way_down()
        width = self.level_widths[-1]
        self.middle_block = self.blocks.stage(
            self.blocks.residual(width), self.blocks.attention(width), self.blocks.residual(width)
        )

    @property
    def coarsest(self) -> int:
        """How many times smaller the innermost grid is than the image."""
        return int(2 ** (len(self.level_widths) - 1))

    def _way_down(self) -> tuple[nn.ModuleList, list[int]]:
        """Return the stages down to the coarsest grid, and the output width of each."""
        width = self.level_widths[0]
        stages = [self.blocks.stage(nn.Conv2d(self.in_channels, width, 3, padding=1))]
        widths = [width]
        for level, level_width in enumerate(self.level_widths):
            for _ in range(self.num_res_blocks):
                layers: list[nn.Module] = [self.blocks.residual(width, level_width)]
                width = level_width
                if 2**level in self.blocks.attention_resolutions:
                    layers.append(self.blocks.attention(width))
                stages.append(self.blocks.stage(*layers))
                widths.append(width)
            if level < len(self.level_widths) - 1:
                stages.append(self.blocks.stage(self.blocks.resampling(width, "down")))
                widths.append(width)
        return nn.ModuleList(stages), widths

    def _embed(self, timesteps_N: Tensor) -> Tensor:
        emb_NE: Tensor = self.time_embed(timestep_embedding(timesteps_N, self.model_channels))
        return emb_NE

    def _encode(self, x_NCHW: Tensor, emb_NE: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the output of every stage on the way down, and of the middle."""
        x, outputs = x_NCHW.contiguous(memory_format=torch.channels_last), []
        for stage in self.input_blocks:
            x = stage(x, emb_NE)
            outputs.append(x)
        return outputs, self.middle_block(x, emb_NE)

    def _precision(self, x: Tensor, force_fp32: bool) -> torch.autocast:
        """Return the context of a forward: half precision only on accelerators, if it was asked for."""
        half = self.use_fp16 and not force_fp32 and x.device.type == "cuda"
        return torch.autocast(x.device.type, dtype=torch.float16, enabled=half)


class UNetModel(Encoder):
    """The U-Net: an image and a timestep to an image of `out_channels` channels of the same size.

    Arguments are those of `Encoder`. With `num_classes` it is conditioned on `y`: int64 labels N, or
    float class weights NK.
    """

    def __init__(self, *encoder: Any, num_classes: int | None = None, **options: Any) -> None:
        super().__init__(*encoder, **options)
        self.label_emb = nn.Embedding(num_classes, self.blocks.emb_channels) if num_classes else None
        self.output_blocks = self._way_up()
        width = self.level_widths[0]
        last = zeroed(nn.Conv2d(width, self.out_channels, 3, padding=1))
        self.out = nn.Sequential(group_norm(width), nn.SiLU(), last)

    def forward(
        self, x_NCHW: Tensor, timesteps_N: Tensor, y: Tensor | None = None, force_fp32: bool = False
    ) -> Tensor:
        """Return the output, float32 NCHW; timesteps may be fractional."""
        emb_NE = self._embed(timesteps_N) + self._label(y)
        with self._precision(x_NCHW, force_fp32):
            skips, h = self._encode(x_NCHW, emb_NE)
            for stage in self.output_blocks:
                h = stage(torch.cat([h, skips.pop()], dim=1), emb_NE)
        output_NCHW: Tensor = self.out(h.float())
        return output_NCHW.contiguous()

    def _label(self, y: Tensor | None) -> Tensor | float:
        """Return the embedding of labels or class weights, NE; nothing for an unconditional network."""
        if (y is None) != (self.label_emb is None):
            raise ValueError("labels are given if, and only if, the network is class-conditional")
        if y is None or self.label_emb is None:
            return 0.0
        return y @ self.label_emb.weight if y.is_floating_point() else self.label_emb(y)

    def _way_up(self) -> nn.ModuleList:
        """Return the stages up from the coarsest grid, each of which takes a skip connection."""
        stages, width, skips = [], self.level_widths[-1], list(self.skip_widths)
        for level, level_width in reversed(list(enumerate(self.level_widths))):
            for number in range(self.num_res_blocks + 1):
                layers: list[nn.Module] = [self.blocks.residual(width + skips.pop(), level_width)]
                width = level_width
                if 2**level in self.blocks.attention_resolutions:
                    layers.append(self.blocks.attention(width, upwards=True))
                if level and number == self.num_res_blocks:
                    layers.append(self.blocks.resampling(width, "up"))
                stages.append(self.blocks.stage(*layers))
        return nn.ModuleList(stages)


class EncoderUNetModel(Encoder):
    """The encoder half with a pooling head: an image and a timestep to O = `out_channels` logits.

    Arguments are those of `Encoder`. Heads by `pool`: `attention` (the published classifiers), `adaptive`
    (the mean cell), `spatial` (means of all stages, then two linear layers).
    """

    def __init__(self, *encoder: Any, pool: Pool = "adaptive", **options: Any) -> None:
        super().__init__(*encoder, **options)
        self.pool = pool
        self.out = self._head(self.level_widths[-1])

    def _head(self, width: int) -> nn.Sequential:
        if self.pool == "spatial":
            features = sum(self.skip_widths) + width
            return nn.Sequential(
                nn.Linear(features, SPATIAL_WIDTH), nn.ReLU(), nn.Linear(SPATIAL_WIDTH, self.out_channels)
            )
        if self.pool == "adaptive":
            last = zeroed(nn.Conv2d(width, self.out_channels, 1))
            return nn.Sequential(group_norm(width), nn.SiLU(), nn.AdaptiveAvgPool2d(1), last, nn.Flatten())
        grid, head_width = self.image_size // self.coarsest, self.blocks.num_head_channels
        pooling = AttentionPool2d(grid, width, head_width, self.out_channels)
        return nn.Sequential(group_norm(width), nn.SiLU(), pooling)

    def forward(self, x_NCHW: Tensor, timesteps_N: Tensor, force_fp32: bool = False) -> Tensor:
        """Return logits, float32 NO; timesteps may be fractional."""
        emb_NE = self._embed(timesteps_N)
        with self._precision(x_NCHW, force_fp32):
            outputs, h = self._encode(x_NCHW, emb_NE)
        if self.pool == "spatial":
            h = torch.cat([output.float().mean(dim=(2, 3)) for output in (*outputs, h)], dim=1)
        logits_NO: Tensor = self.out(h.float())
        return logits_NO
