"""The digits as sample sets."""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch

from genplug.errors import DataError
from genplug.samplesets import ArraySet

SPLITS = ("train", "held-out")


class Digits:
    """uint8 N 1 8 8, grey level v of 17 stored as round(v * 255 / 16); int64 labels 0 to 9."""

    num_classes = 10
    levels = 17

    def split(self, name: str) -> ArraySet:
        """Return `train` (1,297 images) or `held-out` (500)."""
        if name not in SPLITS:
            raise DataError(f"digits have the splits {', '.join(SPLITS)}, not {name!r}")
        with resources.files("genplug_digits").joinpath("digits.npz").open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            rows = archive["held_out"] == (name == "held-out")
            levels, labels = archive["levels"][rows], archive["labels"][rows]
        images = np.round(levels.astype(np.float64) * (255 / 16)).astype(np.uint8)
        return ArraySet(torch.from_numpy(images)[:, None], torch.from_numpy(labels).long(), f"digits:{name}")
