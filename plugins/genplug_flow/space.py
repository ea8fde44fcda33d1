"""Where a flow moves samples: a generator's latents, else its samples by their codec.

Points are moved as they are, images as values in [-1, 1]. Latents are drawn and moved as latents; what
is not latent goes through samples, so that a network, a black box and a folder of its images are one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.denoiser import IdentityCodec, PixelCodec
from genplug.random import NoiseSource
from genplug.samplesets import ArraySet, SampleSet, content_digest

_PROBE = 4  # rows whose decoded content tells one decoder from another


class Space:
    """What a flow works on, for one generator.

    What is drawn, `drawn`, is what a pool keeps: latents, or samples. x is float32.
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        # Tokens of a likelihood have an encoding too, but no flow can move them.
        own = hasattr(generator, "encode") and "likelihood" not in generator.provides
        plain = PixelCodec() if generator.modality == "image" else IdentityCodec()
        self.codec: Any = generator if own else plain
        self.latent = own and "latent" in generator.provides

    def draw(self, seeds_N: Tensor, cond: Condition | None) -> Tensor:
        """Return one latent, or one sample, per seed."""
        drawn: Tensor = (self.generator.sample_x if self.latent else self.generator.sample)(seeds_N, cond)
        return drawn

    def x(self, drawn: Tensor) -> Tensor:
        """Return what was drawn as x."""
        x: Tensor = drawn if self.latent else self.codec.encode(drawn)
        return x.float()

    def samples(self, drawn: Tensor, name: str, labels: Tensor | None) -> SampleSet:
        """Return what was drawn as a set of samples."""
        return Decoded(self, drawn, labels, name) if self.latent else ArraySet(drawn, labels, name)

    def encode(self, samples: Tensor, noise: NoiseSource | None = None) -> Tensor:
        """Return samples as x."""
        x: Tensor = self.codec.encode(samples, noise)
        return x

    def decode(self, x: Tensor) -> Tensor:
        """Return x as samples."""
        samples: Tensor = self.codec.decode(x)
        return samples


class Decoded:
    """Latents as a set of samples, decoded when they are read."""

    def __init__(self, space: Space, latents: Tensor, labels: Tensor | None, name: str) -> None:
        self.space, self.latents, self.labels, self.name = space, latents, labels, name

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest of the latents and, for the decoder, of the first of them decoded."""
        first = content_digest(ArraySet(self.read(range(min(_PROBE, len(self))))))
        values = hashlib.sha256(self.latents.contiguous().numpy().tobytes()).hexdigest()
        return hashlib.sha256(f"{values}:{first}".encode()).hexdigest()

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample."""
        return tuple(self.read([0]).shape[1:])

    def __len__(self) -> int:
        return len(self.latents)

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return samples; threads call this, and each of them starts with gradients on."""
        device = next((value.device for value in self.space.generator.state_dict().values()), "cpu")
        with torch.no_grad():
            return self.space.decode(self.latents[torch.as_tensor(rows)].to(device)).cpu()
