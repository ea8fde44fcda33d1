"""The classifier of full size: ADM's encoder half with attention pooling, at the timestep of sigma.

Discriminator guidance puts a small one on the features of a published classifier, which stays as it is:
for 32-pixel images its innermost map of 512 channels on 8 x 8 cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from genplug.checkpoints import load_strict
from genplug.errors import ConfigError
from genplug_adm.classifier import CLASSIFIERS, NoisyClassifier
from genplug_adm.schedule import DiscreteNoise
from genplug_adm.unet import EncoderUNetModel
from genplug_guidance.gradient_config import NetworkConfig

_HEAD = 64  # channels of an attention head
_INNERMOST = 8  # cells a side
_FEATURES_DEPTH, _ON_FEATURES = 4, 2  # blocks per level of the published encoder, and of what is put on it


def adm_classifier(config: NetworkConfig, x_shape: tuple[int, ...], logits: int) -> nn.Module:
    """Return the network with random weights: logits(x, sigma), x / sqrt(1 + sigma^2) inside."""
    side = x_shape[-1]
    if x_shape[-2] != side or side < _INNERMOST or side & (side - 1):
        raise ConfigError(
            f"a classifier of kind 'unet' takes square x of 8, 16, 32, ... cells, not {x_shape}; "
            "set objective.network.kind to cnn"
        )
    known = CLASSIFIERS.get(side)
    usual = known.schedule if known else "linear"
    schedule = usual if config.noise_schedule == "auto" else config.noise_schedule
    noise = DiscreteNoise.of(schedule, config.timesteps)
    whole = {**encoder_options(config, side), "in_channels": x_shape[0], "out_channels": logits}
    if not config.features:
        return NoisyClassifier(EncoderUNetModel(**whole), noise, fractional=True)
    published = config.model_copy(
        update={"width": config.features_width, "depth": known.depth if known else _FEATURES_DEPTH}
    )
    frozen = {**encoder_options(published, side), "in_channels": x_shape[0], "out_channels": 1}
    on_top = config.model_copy(update={"depth": config.depth or _ON_FEATURES})
    channels = int(config.features_width * frozen["channel_mult"][-1])
    head = EncoderUNetModel(**encoder_options(on_top, _INNERMOST), in_channels=channels, out_channels=logits)
    return NoisyClassifier(OnFeatures(frozen, head), noise, fractional=True)


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
    return tuple(float(min(2**level, 4)) for level in range(round(math.log2(side / _INNERMOST)) + 1))


class InnermostMap(EncoderUNetModel):
    """The encoder without its head: an image and a timestep to the features of the innermost grid."""

    def forward(self, x_NCHW: Tensor, timesteps_N: Tensor, force_fp32: bool = False) -> Tensor:
        """Return features, N C 8 8."""
        features_NCHW: Tensor = self._encode(x_NCHW, self._embed(timesteps_N))[1]
        return features_NCHW


class OnFeatures(nn.Module):
    """A classifier of the features of a network that is never trained: its weights are buffers here."""

    def __init__(self, encoder: Mapping[str, Any], head: EncoderUNetModel) -> None:
        super().__init__()
        with torch.device("meta"):
            network = InnermostMap(**encoder)
            network.out = nn.Sequential()
        self._form = (network,)  # in a tuple, so that it is no part of this module
        for name, value in network.state_dict().items():
            self.register_buffer(_buffer(name), torch.zeros(value.shape, dtype=value.dtype))
        self.head = head

    def load_features(self, state: Mapping[str, Tensor]) -> None:
        """Load the encoder's weights by ADM's names; those of its head are left out."""
        names = self._form[0].state_dict()
        own = {_buffer(name): value for name, value in state.items() if not name.startswith("out.")}
        holder = nn.Module()
        for name in names:
            holder.register_buffer(_buffer(name), getattr(self, _buffer(name)))
        load_strict(holder, own, "the encoder of objective.network.features")

    def forward(self, x_NCHW: Tensor, timesteps_N: Tensor) -> Tensor:
        """Return logits NK."""
        network = self._form[0]
        state = {name: getattr(self, _buffer(name)) for name in network.state_dict()}
        features_NCHW = functional_call(network, state, (x_NCHW, timesteps_N))
        logits_NK: Tensor = self.head(features_NCHW, timesteps_N)
        return logits_NK


def _buffer(name: str) -> str:
    return "features/" + name.replace(".", "/")
