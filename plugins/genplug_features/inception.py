"""Inception-v3 with seeded random weights: features that owe nothing to any data set (IRS, section 4.6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug_features.config import RandomInceptionConfig
from genplug_features.pretrained import in_parts, initialise_for_relu_, seeded


class RandomInception:
    """Pool features, 2048, of images resized to a square and scaled to [-1, 1]."""

    def __init__(self, config: RandomInceptionConfig, device: torch.device) -> None:
        self.size, self.device = config.size, device
        self.network = seeded_inception(config.seed).to(device)
        self.fingerprint = f"random-inception-1:{config.seed}:{config.size}"

    def preprocess(self, sample: Tensor) -> Tensor:
        """Return a uint8 image CHW as float32 (3, size, size); grey is repeated."""
        image = sample.expand(3, -1, -1)[None].to(torch.float32)
        resized = F.interpolate(
            image, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        )
        return resized[0] / 127.5 - 1

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the features of preprocessed images."""
        return in_parts(lambda some: {"features": self.network(some).to(torch.float32)}, batch)


def seeded_inception(seed: int) -> nn.Module:
    """Build the network; its weights are a pure function of the seed (He initialisation)."""
    from torchvision.models import inception_v3

    with seeded(seed):
        network = inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=False)
        initialise_for_relu_(network)
    network.fc = nn.Identity()
    frozen: nn.Module = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return frozen
