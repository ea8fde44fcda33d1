"""Frequency filters: golden images, identities, waves of known frequency."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genplug_metrics.filters import band_pass, high_pass, low_mask, low_pass


def wave(frequency: int, size: int = 16) -> Tensor:
    """Return a horizontal cosine of so many periods."""
    return (
        (2 * torch.pi * frequency * torch.arange(size, dtype=torch.float64) / size)
        .cos()
        .expand(1, size, size)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_filtered_images_equal_the_golden_ones(golden: dict[str, Tensor], dtype: torch.dtype) -> None:
    image, atol = golden["in/filter_image"].to(dtype), 1e-12 if dtype == torch.float64 else 1e-6
    made = {"low_4": low_pass(image, 4), "low_32": low_pass(image, 32), "high_8": high_pass(image, 8)}
    made["band_4_8"] = band_pass(image, 4, 8)
    for key, got in made.items():
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), golden[f"out/filter_{key}"], rtol=0, atol=atol)


def test_bands_add_up_to_the_image() -> None:
    image = torch.rand(2, 3, 15, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = low_pass(image, 2) + band_pass(image, 2, 5) + high_pass(image, 5)
    torch.testing.assert_close(whole, image, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("frequency", "kept"), [(2, 1.0), (3, 0.5), (4, 0.0)])
def test_the_half_open_square_keeps_half_of_its_rim(frequency: int, kept: float) -> None:
    torch.testing.assert_close(low_pass(wave(frequency), 3), kept * wave(frequency), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("frequency", "kept"), [(3, 1.0), (4, 0.0)])
def test_the_symmetric_square_keeps_its_rim(frequency: int, kept: float) -> None:
    torch.testing.assert_close(low_pass(wave(frequency), 3, True), kept * wave(frequency), rtol=0, atol=1e-12)


def test_masks_are_clamped_to_the_spectrum() -> None:
    assert low_mask(7, 9, 100).all()
    assert low_mask(8, 8, 0).sum() == 0
    assert low_mask(9, 9, 2, symmetric=True).sum() == 25


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(ValueError, match="got -1"):
        low_pass(wave(1), -1)
