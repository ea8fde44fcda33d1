"""Rectangular frequency filters of images, to ask in which band two image sets differ.

The shifted spectrum of each channel is multiplied by a square of ones around the zero frequency (FreeU's
form). `bins` is half the square's side, in frequency bins, not a fraction of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor


def low_mask(height: int, width: int, bins: int, symmetric: bool = False) -> Tensor:
    """Return the 0/1 mask HW of the shifted spectrum, float64, clamped to it.

    Half-open, [c - bins, c + bins) around c = size // 2, as in published filters: it holds the frequency
    -bins but not +bins, so a filtered image is the real part of a complex one. `symmetric` closes it.
    """
    if bins < 0:
        raise ValueError(f"a filter needs a half-width of 0 bins or more, got {bins}")
    keep = [_inside(size, bins, symmetric) for size in (height, width)]
    return torch.outer(*keep).double()


def _inside(size: int, bins: int, symmetric: bool) -> Tensor:
    offset = torch.arange(size) - size // 2
    return (offset >= -bins) & ((offset <= bins) if symmetric else (offset < bins))


def low_pass(image_CHW: Tensor, bins: int, symmetric: bool = False) -> Tensor:
    """Return the image (any leading dimensions, float) with frequencies inside the square alone.

    Values are neither clipped nor rounded: that would bring the removed frequencies back.
    """
    height, width = image_CHW.shape[-2:]
    mask_HW = low_mask(height, width, bins, symmetric).to(image_CHW)
    spectrum = torch.fft.fftshift(torch.fft.fft2(image_CHW), dim=(-2, -1)) * mask_HW
    kept: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real
    return kept


def high_pass(image_CHW: Tensor, bins: int, symmetric: bool = False) -> Tensor:
    """Return what the low pass removes; its mean is near zero, so standardise before comparing."""
    return image_CHW - low_pass(image_CHW, bins, symmetric)


def band_pass(image_CHW: Tensor, low: int, high: int, symmetric: bool = False) -> Tensor:
    """Return the frequencies inside the square of `high` and outside that of `low`."""
    return low_pass(image_CHW, high, symmetric) - low_pass(image_CHW, low, symmetric)
