"""The digits as sample sets."""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genplug.errors import DataError
from genplug.samplesets import ArraySet

SPLITS = ("train", "held-out")
SIDE, LEVELS = 8, 17  # of the images as they are


class Digits:
    """uint8 N 1 S S with int64 labels 0 to 9.

    At 8 pixels a side grey level v of 17 is stored as round(v * 255 / 16). Larger ones are interpolated
    from these (bicubic, clipped, 256 levels): tests of larger networks, without any detail of their own.
    """

    num_classes = 10

    def __init__(self, resolution: int = SIDE) -> None:
        self.resolution = resolution
        self.levels = LEVELS if resolution == SIDE else 256

    def split(self, name: str) -> ArraySet:
        """Return `train` (1,297 images) or `held-out` (500)."""
        if name not in SPLITS:
            raise DataError(f"digits have the splits {', '.join(SPLITS)}, not {name!r}")
        with resources.files("genplug_digits").joinpath("digits.npz").open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            rows = archive["held_out"] == (name == "held-out")
            levels, labels = archive["levels"][rows], archive["labels"][rows]
        grey = np.round(levels.astype(np.float64) * (255 / (LEVELS - 1))).astype(np.uint8)
        images = self._enlarged(torch.from_numpy(grey)[:, None])
        return ArraySet(images, torch.from_numpy(labels).long(), f"digits:{name}")

    def _enlarged(self, images_NCHW: Tensor) -> Tensor:
        """Return uint8 images at this resolution."""
        if self.resolution == SIDE:
            return images_NCHW
        size = (self.resolution, self.resolution)
        larger = F.interpolate(images_NCHW.double(), size=size, mode="bicubic", align_corners=False)
        return larger.round().clamp(0, 255).to(torch.uint8)
