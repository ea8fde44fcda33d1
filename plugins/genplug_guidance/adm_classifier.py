"""The classifier of full size: ADM's encoder half with attention pooling, at the timestep of sigma."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from genplug.errors import ConfigError
from genplug_adm.classifier import CLASSIFIERS, NoisyClassifier
from genplug_adm.schedule import DiscreteNoise
from genplug_adm.unet import EncoderUNetModel
from genplug_guidance.gradient_config import NetworkConfig

_HEAD = 64  # channels of an attention head


class AdmClassifier:
    """How options become ADM's noisy classifier."""

    @staticmethod
    def of(config: NetworkConfig, x_shape: tuple[int, ...], logits: int) -> nn.Module:
        """Return the network with random weights: logits(x, sigma), x / sqrt(1 + sigma^2) inside."""
        side = x_shape[-1]
        if x_shape[-2] != side or side < 8 or side & (side - 1):
            raise ConfigError(
                f"a classifier of kind 'unet' takes square x of 8, 16, 32, ... cells, not {x_shape}; "
                "set objective.network.kind to cnn"
            )
        schedule = config.noise_schedule
        if schedule == "auto":
            schedule = "cosine" if side == 64 else "linear"
        noise = DiscreteNoise.of(schedule, config.timesteps)
        network = EncoderUNetModel(
            **encoder_options(config, side), in_channels=x_shape[0], out_channels=logits
        )
        return NoisyClassifier(network, noise, fractional=True)


def encoder_options(config: NetworkConfig, side: int) -> dict[str, Any]:
    """Return the arguments of the encoder: the published ones for the published sizes of images."""
    known = CLASSIFIERS.get(side)
    width = config.width or 128
    multiples = known.channel_mult if known else _halved(side)
    return {
        "image_size": side,
        "model_channels": width,
        "num_res_blocks": config.depth or (known.depth if known else 4 if side < min(CLASSIFIERS) else 2),
        "attention_resolutions": tuple(side // grid for grid in config.attention if grid <= side),
        "channel_mult": multiples,
        "num_head_channels": math.gcd(_HEAD, *(int(width * multiple) for multiple in multiples)),
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "pool": "attention",
    }


def _halved(side: int) -> tuple[float, ...]:
    """Return multiples of widths for grids down to 8 cells: 1, 2, 4, 4, ..."""
    return tuple(float(min(2**level, 4)) for level in range(round(math.log2(side / 8)) + 1))
