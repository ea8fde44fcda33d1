"""A small classifier of the embedded digits: features that know what a digit is.

`python -m genplug_features.train_digits_classifier OUT` makes its weights again.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from genplug.checkpoints import digest, load_strict, load_weights
from genplug.errors import DataError

WEIGHTS = "digits_classifier.safetensors"


class Network(nn.Module):
    """Three convolutions and two linear layers; `features` is the penultimate layer, N 64."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(192, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def features(self, x_N188: Tensor) -> Tensor:
        """Return penultimate features of x in [0, 1]."""
        feat_ND: Tensor = self.body(x_N188)
        return feat_ND

    def forward(self, x_N188: Tensor) -> Tensor:
        """Return logits N 10."""
        logits_NK: Tensor = self.head(self.features(x_N188))
        return logits_NK


class DigitsClassifier:
    """Penultimate features, 64, of 8x8 grey images."""

    def __init__(self, device: torch.device) -> None:
        state = load_weights(Path(str(resources.files("genplug_features"))) / WEIGHTS)
        network = Network()
        load_strict(network, state, "the digits classifier")
        self.network = network.eval().requires_grad_(False).to(device)
        self.fingerprint = f"digits-classifier:{digest(state)}"

    def preprocess(self, sample: Tensor) -> Tensor:
        """Return a uint8 image (1, 8, 8) in [0, 1]."""
        if tuple(sample.shape) != (1, 8, 8):
            raise DataError(
                f"digits-classifier takes 8x8 grey images, not {tuple(sample.shape)}; use another extractor"
            )
        return sample.to(torch.float32) / 255

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Return features and logits."""
        feat_ND = self.network.features(batch)
        return {"features": feat_ND, "logits": self.network.head(feat_ND)}
