"""Pixels as features."""

from __future__ import annotations

import torch
from torch import Tensor


class Pixels:
    """uint8 CHW / 255 flattened; points unchanged."""

    fingerprint = "pixels-1"

    def preprocess(self, sample: Tensor) -> Tensor:
        """Return one sample as float32 D."""
        flat = sample.flatten()
        return flat.to(torch.float32) / 255 if sample.dtype == torch.uint8 else flat

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the rows themselves."""
        return {"features": batch}
