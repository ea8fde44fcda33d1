"""Latents of the Stable Diffusion autoencoder as EDM2 uses them (arXiv 2312.02696, Appendix).

Raw latents are the posterior's mean and standard deviation, N 8 H/8 W/8; final latents, N 4 H/8 W/8, are one
posterior sample, standardised per channel with fixed constants to mean 0 and standard deviation 0.5
(sigma_data).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genplug.errors import GenplugError
from genplug.random import NoiseSource

VAE_NAME = "stabilityai/sd-vae-ft-mse"
RAW_MEAN = (5.81, 3.25, 0.12, -2.15)  # of the raw latents, per channel, over ImageNet-512
RAW_STD = (4.17, 4.62, 3.71, 3.28)
FINAL_STD = 0.5


def load_autoencoder(name: str = VAE_NAME) -> Any:
    """Load the autoencoder through diffusers, frozen."""
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise GenplugError(
            f"the autoencoder {name!r} needs the package 'diffusers': pip install diffusers"
        ) from error
    return AutoencoderKL.from_pretrained(name).eval().requires_grad_(False)


class StabilityVae:
    """Codec between uint8 images NCHW and final latents; the autoencoder is loaded when first needed.

    `vae` is anything with diffusers' interface: `encode(x)["latent_dist"]` with `.mean` and `.std`, and
    `decode(z)["sample"]`. Both work on pixels in [0, 1]; at most `batch` images pass through it at once.
    """

    def __init__(self, vae: Any = None, name: str = VAE_NAME, batch: int = 8) -> None:
        self._vae = vae
        self.name = name
        self.batch = batch
        std = torch.tensor(RAW_STD)
        self.scale_C = FINAL_STD / std
        self.bias_C = -torch.tensor(RAW_MEAN) * self.scale_C

    def encode(self, samples: Tensor, noise: NoiseSource | None = None) -> Tensor:
        """Final latents of uint8 images NCHW: a posterior sample drawn from `noise`, its mean without."""
        raw_NCHW = self.posterior(samples)
        shape = (len(raw_NCHW), raw_NCHW.shape[1] // 2, *raw_NCHW.shape[2:])
        draws = None if noise is None else noise.normal(shape, "latent")
        return self.standardise(raw_NCHW, draws)

    @torch.no_grad()
    def posterior(self, images_NCHW: Tensor) -> Tensor:
        """Raw latents (mean, then standard deviation) of uint8 images."""
        vae = self._on(images_NCHW.device)
        found = [vae.encode(part.float() / 255)["latent_dist"] for part in images_NCHW.split(self.batch)]
        moments = ([getattr(one, name) for one in found] for name in ("mean", "std"))
        return torch.cat([torch.cat(parts) for parts in moments], dim=1)

    def standardise(self, raw_NCHW: Tensor, noise_NCHW: Tensor | None) -> Tensor:
        """Final latents: a posterior sample (the mean without unit normal noise), standardised."""
        mean, std = raw_NCHW.float().chunk(2, dim=1)
        scale, bias = self._constants(raw_NCHW.device)
        sample = mean if noise_NCHW is None else mean + noise_NCHW * std
        return sample * scale + bias

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Images uint8 NCHW of final latents (clipped, truncated)."""
        vae = self._on(x.device)
        scale, bias = self._constants(x.device)
        raw = (x.float() - bias) / scale
        images = torch.cat([vae.decode(chunk)["sample"] for chunk in torch.split(raw, self.batch)])
        return (images.clamp(0, 1) * 255).to(torch.uint8)

    def _constants(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.scale_C.to(device)[:, None, None], self.bias_C.to(device)[:, None, None]

    def _on(self, device: torch.device) -> Any:
        if self._vae is None:
            self._vae = load_autoencoder(self.name)
        if hasattr(self._vae, "to"):
            self._vae.to(device)
        return self._vae
