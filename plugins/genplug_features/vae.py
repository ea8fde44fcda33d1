"""`vae`: what the encoder of Stable Diffusion's autoencoder makes of an image, flattened."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genplug.errors import GenplugError
from genplug_features.config import VaeConfig
from genplug_features.preprocessing import Recipe
from genplug_features.pretrained import Pretrained, in_parts, seeded, without

LATENT = 4
#: Names of attention layers in files that old versions of diffusers wrote.
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class StableVae(Pretrained):
    """The means of the latents, not scaled: 4 x size/8 x size/8, channels first."""

    def __init__(self, config: VaeConfig, device: torch.device) -> None:
        with seeded(config.seed):
            network = encoder(config)
        self.image = Recipe(config.size, interpolation="bicubic")
        super().__init__("vae", network.to(device), f"1:{config.size}:{config.channels}:{config.blocks}")

    def preprocess(self, sample: Tensor) -> Tensor:
        """Return a uint8 image CHW as a square in [-1, 1]: the shorter side resized, the middle cropped."""
        return self.image(sample)

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the means of the latents."""
        return in_parts(self._see, batch)

    def _see(self, batch: Tensor) -> dict[str, Tensor]:
        network: Any = self.network
        moments = network.quant_conv(network.encoder(batch))
        return {"features": moments[:, :LATENT].flatten(1).to(torch.float32)}

    def adapt(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the encoder of a file by diffusers, old or new."""
        kept = without(tensors, "decoder.", "post_quant_conv.")
        return {_renamed(name): value for name, value in kept.items()}


def encoder(config: VaeConfig) -> nn.Module:
    """Build the encoder and what follows it."""
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise GenplugError("extractor 'vae' needs diffusers: pip install 'genplug[diffusers]'") from error
    levels = len(config.channels)
    whole = AutoencoderKL(
        block_out_channels=config.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=config.blocks,
        latent_channels=LATENT,
        norm_num_groups=min(32, *config.channels),
    )
    return nn.ModuleDict({"encoder": whole.encoder, "quant_conv": whole.quant_conv})


def _renamed(name: str) -> str:
    head, _, rest = name.rpartition(".attentions.0.")
    layer, _, leaf = rest.rpartition(".")
    return f"{head}.attentions.0.{_RENAMED[layer]}.{leaf}" if head and layer in _RENAMED else name
