"""`inception-fid`: the features of FID, KID, sFID and the Inception Score, as published numbers use them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug.checkpoints import digest, load_weights
from genplug.receipts import read_receipt
from genplug.weights import fetched_path
from genplug_features.config import InceptionFidConfig
from genplug_features.fid_network import Inception, fused
from genplug_features.preprocessing import resized_as_tensorflow_1
from genplug_features.pretrained import Pretrained, in_parts, initialise_for_relu_, seeded, without_counters

PRESET = "inception-fid.2015-12-05"
#: Of `pt_inception-2015-12-05-6726825d.pth`, as several projects pin it; 95,628,359 bytes.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 299
#: What scores on the published network's features are known as.
NAMES = {
    "fd": "fid",
    "fd-infinity": "fid-infinity",
    "kd": "kid",
    "sfd": "sfid",
    "inception-score": "inception-score",
}


class InceptionFid(Pretrained):
    """Outputs `features` (2048), `logits` (1008, no bias), `spatial` (7 x 17 x 17), `pool64` to `pool768`."""

    def __init__(self, config: InceptionFidConfig, device: torch.device) -> None:
        self.size, self.resize, self.device = config.size, config.resize, device
        with seeded(config.seed):
            network = Inception()
            initialise_for_relu_(network)
        super().__init__("inception-fid", network.to(device), f"1:{config.size}:{config.resize}")
        self._quick: nn.Module | None = None
        self._published: bool | None = None

    @property
    def score_names(self) -> Mapping[str, str]:
        """Return the published names of scores: only for the published weights, size and resize."""
        if self.size != SIZE or self.resize != "tensorflow":
            return {}
        if self._published is None:
            self._published = is_published(self.state_dict())
        return NAMES if self._published else {}

    def preprocess(self, sample: Tensor) -> Tensor:
        """Return a uint8 image CHW as float32 (3, size, size) in [-1, 1); grey is repeated."""
        if self.resize == "tensorflow":
            x = resized_as_tensorflow_1(sample, self.size)
            return x.sub_(128).div_(128).expand(3, -1, -1)
        unit = sample[None].to(torch.float32) / 255
        x = F.interpolate(unit, (self.size, self.size), mode="bilinear", align_corners=False)[0]
        return (2 * x - 1).expand(3, -1, -1)

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the features of preprocessed images."""
        if batch.device.type != "cpu":
            return in_parts(self.network, batch)
        if self._quick is None:
            self._quick = fused(self.network)  # type: ignore[arg-type]
        return in_parts(self._quick, batch)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load weights, all of them and no others."""
        super().load_state_dict(state)
        self._quick = self._published = None

    def adapt(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of the published file: its names are the network's."""
        return without_counters(tensors)


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights are those of the published file, which `genplug fetch` saw with its sha256."""
    fetched = fetched_path(PRESET)
    receipt = read_receipt(fetched) if fetched.is_file() else None
    if receipt is None or receipt.sha256 != SHA256:
        return False
    return digest(load_weights(fetched)) == digest(state)
