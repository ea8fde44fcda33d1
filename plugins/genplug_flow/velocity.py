"""The velocity field v(x, t, c) of a flow: an MLP for points, the ADM U-Net for images and latents.

Both start as v = 0: before training a flow leaves samples where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug.condition import Condition
from genplug.errors import CapabilityError, ConfigError
from genplug_adm.unet import UNetModel
from genplug_flow.config import FlowConfig
from genplug_toy.networks import PointMlp

TIMES = 1000.0  # t in [0, 1] in the timesteps for which ADM's embedding is made


@dataclass(frozen=True)
class Sizes:
    """What a velocity network is: enough to build it again. `classes` is 0 without labels."""

    kind: str
    x_shape: tuple[int, ...]
    classes: int
    options: Mapping[str, Any]

    @staticmethod
    def of(config: FlowConfig, x_shape: tuple[int, ...], classes: int) -> Sizes:
        """Return the sizes that a configuration gives to x of a shape."""
        kind = config.network if config.network != "auto" else "mlp" if len(x_shape) == 1 else "unet"
        if kind == "mlp":
            return Sizes(kind, x_shape, classes, config.mlp.model_dump())
        if len(x_shape) != 3:
            raise ConfigError(f"objective.network=unet takes images; x has shape {x_shape}; use mlp")
        return Sizes(kind, x_shape, classes, _unet_options(config, x_shape))

    def build(self) -> Velocity:
        """Return the network with new weights."""
        return Velocity(self)

    def record(self) -> dict[str, Any]:
        """Return the sizes as plain data."""
        return {"kind": self.kind, "x_shape": self.x_shape, "classes": self.classes, "options": self.options}

    @staticmethod
    def read(record: Mapping[str, Any]) -> Sizes:
        """Return the sizes of a record."""
        return Sizes(record["kind"], tuple(record["x_shape"]), record["classes"], record["options"])


def _unet_options(config: FlowConfig, x_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return arguments of `UNetModel`; what is not given goes by the size of the image."""
    own, side = config.unet, x_shape[1]
    mult = own.channel_mult or _channel_mult(side)
    if x_shape[1] != x_shape[2] or side % 2 ** (len(mult) - 1):
        raise ConfigError(
            f"a U-Net of {len(mult)} levels needs a square grid that halves {len(mult) - 1} times; x has "
            f"shape {x_shape}; set objective.unet.channel_mult to fewer levels"
        )
    return {
        "model_channels": own.channels or (32 if side <= 28 else 64),
        "channel_mult": list(mult),
        "num_res_blocks": own.blocks,
        "attention_resolutions": list(own.attention),
        "num_head_channels": own.head_channels,
        "dropout": own.dropout,
    }


def _channel_mult(side: int) -> tuple[int, ...]:
    """Return levels down to a grid of at least 4: (1, 2) for digits, (1, 2, 2, 2) from 32 pixels on."""
    levels = 1
    while levels < 4 and side % 2**levels == 0 and side // 2**levels >= 4:
        levels += 1
    return (1, 2, 2, 2)[: levels if side >= 32 else min(levels, 2)]


class Velocity(nn.Module):
    """v(x, t, c) of x of any shape, t in [0, 1] and, where it has classes, their labels or weights."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes, options = sizes, sizes.options
        if sizes.kind == "mlp":
            dims = int(torch.Size(sizes.x_shape).numel())
            self.net: nn.Module = PointMlp(dims, dims, **options, cond_width=sizes.classes)
            nn.init.zeros_(self.net.out.weight)
            nn.init.zeros_(self.net.out.bias)
        else:
            channels, side, _ = sizes.x_shape
            self.net = UNetModel(
                image_size=side,
                in_channels=channels,
                out_channels=channels,
                num_classes=sizes.classes or None,
                **options,
            )

    def forward(self, x: Tensor, t_N: Tensor, weights_NK: Tensor | None) -> Tensor:
        """Return dx/dt, in the shape of x."""
        if self.sizes.kind == "mlp":
            moved: Tensor = self.net(x.flatten(1), t_N, weights_NK)
            return moved.reshape(x.shape)
        velocity: Tensor = self.net(x, TIMES * t_N, weights_NK)
        return velocity


def class_weights(cond: Condition | None, classes: int) -> Tensor | None:
    """Return a condition as class weights, float32 NK: one-hot labels, or its own weights."""
    if not classes:
        return None
    if cond is not None and cond.weights_NK is not None:
        return cond.weights_NK.float()
    if cond is None or cond.labels_N is None:
        raise CapabilityError("the flow was trained with labels; ask for samples with labels")
    if not 0 <= int(cond.labels_N.min()) <= int(cond.labels_N.max()) < classes:
        raise CapabilityError(f"the flow knows the labels 0 to {classes - 1}; ask for one of them")
    return F.one_hot(cond.labels_N, classes).float()
