"""From a uint8 image to a network's input, with the filters that published scores were made with.

Two families: Pillow's filters on 8 bits (timm, torchvision, OpenAI's CLIP, dgm-eval), which is done by
Pillow itself, and TensorFlow 1's bilinear resize in float32 (the FID network).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Recipe:
    """How an image becomes a square of `size` pixels with normalised channels.

    `mode` is timm's crop mode: `center` resizes the shorter side to size / crop_pct and crops the
    middle, `squash` resizes both sides to it, `border` the longer side and fills up with the mean
    colour. With `rounded` the resized image is 8 bits again, as Pillow makes it; without, it is resized
    in float32 by torch with the same support (antialiasing).
    """

    size: int
    crop_pct: float = 1.0
    mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    rounded: bool = True

    def __call__(self, image: Tensor) -> Tensor:
        """Return float32 (3, size, size) of a uint8 image CHW."""
        resized = resized_by_pillow if self.rounded else resized_in_float
        shape = self._scaled(image.shape[-2], image.shape[-1])
        pixels = cropped(resized(image, shape, self.interpolation), self.size, self.mean)
        unit = pixels.expand(3, -1, -1).to(torch.float32) / 255
        return unit.sub_(_channels(self.mean)).div_(_channels(self.std))

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the shape to resize to, before the crop."""
        side = math.floor(self.size / self.crop_pct)
        if self.mode == "squash":
            return side, side
        if self.mode == "border":
            ratio = max(height / side, width / side)
            return round(height / ratio), round(width / ratio)
        if height <= width:
            return side, int(side * width / height)
        return int(side * height / width), side


def resized_by_pillow(image: Tensor, shape: tuple[int, int], interpolation: str) -> Tensor:
    """Resize a uint8 image CHW with Pillow: antialiased when it shrinks, rounded to 8 bits."""
    if tuple(image.shape[-2:]) == shape:
        return image
    array = image.permute(1, 2, 0).numpy() if len(image) == 3 else image[0].numpy()
    small = Image.fromarray(np.ascontiguousarray(array)).resize(shape[::-1], FILTERS[interpolation])
    found = torch.from_numpy(np.array(small))
    return found.permute(2, 0, 1) if found.ndim == 3 else found[None]


def resized_in_float(image: Tensor, shape: tuple[int, int], interpolation: str) -> Tensor:
    """Resize without rounding to 8 bits; bicubic may then leave [0, 255]."""
    return F.interpolate(
        image[None].to(torch.float32), shape, mode=interpolation, antialias=True, align_corners=False
    )[0]


def cropped(image: Tensor, size: int, mean: tuple[float, ...]) -> Tensor:
    """Return the middle size x size; what an image is too small for gets the mean colour."""
    height, width = image.shape[-2:]
    if height < size or width < size:
        image = _bordered(image, max(size - height, 0), max(size - width, 0), mean)
        height, width = image.shape[-2:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[:, top : top + size, left : left + size]


def _bordered(image: Tensor, rows: int, columns: int, mean: tuple[float, ...]) -> Tensor:
    colour = torch.tensor([round(255 * value) for value in mean], dtype=image.dtype)[:, None, None]
    height, width = image.shape[-2:]
    canvas = colour.repeat(1, height + rows, width + columns)
    top, left = rows // 2, columns // 2
    canvas[:, top : top + height, left : left + width] = image
    return canvas


@cache
def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def resized_as_tensorflow_1(image: Tensor, size: int) -> Tensor:
    """Resize CHW to a square as TensorFlow 1 does: bilinear, no antialiasing, float32.

    Output pixel i lies at i * (input / output), the corner of its area and not its middle
    (`tf.image.resize_bilinear`, align_corners=False, half_pixel_centers=False). Rows of the input are
    interpolated first, each once; then columns, in the order of TensorFlow's operations.
    """
    x = image.to(torch.float32)
    for dim in (-1, -2):
        low, high, share = _taps(x.shape[dim], size)
        left = x.index_select(dim, low)
        x = x.index_select(dim, high).sub_(left).mul_(share if dim == -1 else share[:, None]).add_(left)
    return x


@cache
def _taps(length: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each output pixel the two input pixels and the share of the second."""
    at = torch.arange(size, dtype=torch.float32) * torch.tensor(length / size, dtype=torch.float32)
    low = at.long()
    return low, (low + 1).clamp_max(length - 1), at - low.to(torch.float32)
