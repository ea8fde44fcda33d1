"""`DenoiserGenerator`: denoiser + sampler + codec, the composition that objectives take apart.

Guidance replaces the denoiser, a faster solver the sampler, and neither needs to know the
rest: `generator.replace(denoiser=Guided(generator.denoiser))`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from genplug.checkpoints import load_strict
from genplug.condition import Condition
from genplug.divergence import Denoise, Watch, suspicion
from genplug.errors import NonFiniteError
from genplug.protocols import Codec, Denoiser, NoiseSpec, Policy, Sampler, Trainable
from genplug.random import NoiseSource
from genplug.samplesets import not_finite


class PixelCodec:
    """uint8 images <-> float32 x in [-1, 1], as EDM and EDM2 do it (truncating, not rounding)."""

    def encode(self, samples: Tensor, noise: NoiseSource | None = None) -> Tensor:
        """Return x = samples / 127.5 - 1."""
        return samples.to(torch.float32) / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        """Return x * 127.5 + 128, clipped to [0, 255] and truncated to uint8."""
        return (x.to(torch.float32) * 127.5 + 128).clip(0, 255).to(torch.uint8)


class IdentityCodec:
    """Points are their own x."""

    def encode(self, samples: Tensor, noise: NoiseSource | None = None) -> Tensor:
        """Return the samples as float32."""
        return samples.to(torch.float32)

    def decode(self, x: Tensor) -> Tensor:
        """Return x as it is."""
        return x


@dataclass(frozen=True)
class Labels:
    """Class labels by seed: which class belongs to which sample."""

    num_classes: int

    def __call__(self, seeds_N: Tensor, policy: Policy = "balanced") -> Condition:
        """Return labels: seed modulo K (`balanced`), or uniform ones from the seed's stream."""
        if policy == "balanced":
            return Condition(labels_N=seeds_N % self.num_classes)
        return Condition(labels_N=NoiseSource(seeds_N).integers(self.num_classes, (len(seeds_N),), "label"))


@runtime_checkable
class Composed(Protocol):
    """A denoiser of several networks, which says itself what its weights are."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights of all networks."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load weights strictly."""


@dataclass(frozen=True)
class DenoiserGenerator:
    """A generator made of a denoiser, a sampler and a codec.

    The denoiser may be `trainable`: then `module`, `with_module`, `training_loss`, `after_step`
    and `clone` reach it through this object.
    """

    denoiser: Denoiser
    sampler: Sampler
    codec: Codec
    conditioning: Callable[[Tensor, Policy], Condition] | None = None
    modality: str = "image"
    size: int | None = None

    @property
    def provides(self) -> frozenset[str]:
        """The denoiser's capabilities."""
        return self.denoiser.provides

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return self.denoiser.x_shape

    @property
    def noise(self) -> NoiseSpec:
        """The denoiser's noise levels."""
        return self.denoiser.noise

    def replace(self, **changes: Any) -> DenoiserGenerator:
        """Return a copy with another denoiser, sampler, codec or conditioning."""
        return dataclasses.replace(self, **changes)

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return E[clean x | x] at one noise level per row."""
        return self.denoiser.denoise(x, sigma_N, cond)

    def encode(self, samples: Tensor, noise: NoiseSource | None = None) -> Tensor:
        """Return samples as x."""
        return self.codec.encode(samples, noise)

    def decode(self, x: Tensor) -> Tensor:
        """Return x as samples."""
        return self.codec.decode(x)

    @torch.no_grad()
    def sample_x(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        """Return one x per seed by integrating the denoiser.

        `NonFiniteError` names a seed and the step: the batch is then integrated again under watch.
        """
        noise = NoiseSource(seeds_N, self.denoiser.device)
        sigmas = self.sampler.sigmas(self.noise).to(noise.seeds_N.device)
        x_T = noise.normal((len(seeds_N), *self.x_shape), "start") * sigmas[0].to(torch.float32)
        cond = cond.to(noise.seeds_N.device) if cond is not None else None

        def denoise(x: Tensor, sigma_N: Tensor) -> Tensor:
            return self.denoise(x, sigma_N, cond)

        def integrate(denoise: Denoise) -> Tensor:
            return self.sampler.sample(denoise, x_T, sigmas, noise)

        x = integrate(denoise)
        if not bool(x.isfinite().all()):  # seen here, since decoding makes pixels of anything
            watch = Watch(denoise, x)
            integrate(watch)
            raise NonFiniteError(f"{not_finite(x, seeds_N)}{watch.place(sigmas)}{suspicion(self.denoiser)}")
        return x

    def sample(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        """Return one sample per seed."""
        return self.decode(self.sample_x(seeds_N, cond))

    def conditions(self, seeds_N: Tensor, policy: Policy = "balanced") -> Condition | None:
        """Return the conditions of seeds; None for an unconditional generator."""
        return self.conditioning(seeds_N, policy) if self.conditioning else None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the denoiser's weights: its module's, or those of all networks that it is made of."""
        module = getattr(self.denoiser, "module", None)
        if module is None and isinstance(self.denoiser, Composed):
            return self.denoiser.state_dict()
        return module.state_dict() if module is not None else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the denoiser's weights strictly."""
        if not hasattr(self.denoiser, "module") and isinstance(self.denoiser, Composed):
            self.denoiser.load_state_dict(state)
        else:
            load_strict(self.module, state, "the generator")

    @property
    def module(self) -> nn.Module:
        """The network, if the denoiser is trainable."""
        return self._trainable.module

    def with_module(self, module: nn.Module) -> DenoiserGenerator:
        """Return this generator around another module."""
        return self.replace(denoiser=self._trainable.with_module(module))

    def training_loss(self, x: Tensor, cond: Condition | None, draws: NoiseSource) -> Tensor:
        """Return the denoiser's pretraining loss per row."""
        return self._trainable.training_loss(x, cond, draws)

    def after_step(self) -> None:
        """Restore the denoiser's weight invariants."""
        self._trainable.after_step()

    def full_precision(self) -> DenoiserGenerator:
        """Return this generator with a denoiser that computes in float32 throughout."""
        exact = getattr(self.denoiser, "full_precision", None)
        return self.replace(denoiser=exact()) if exact is not None else self

    def clone(self) -> DenoiserGenerator:
        """Return a copy with its own weights."""
        return self.replace(denoiser=self._trainable.clone())

    def with_unconditional(self) -> DenoiserGenerator:
        """Return this generator saying that its branch without labels is trained."""
        return self.replace(denoiser=self._offering("with_unconditional")())

    def for_features(self, width: int, seed: int) -> DenoiserGenerator:
        """Return this generator with a new network that is conditioned on features.

        What features belong to which seed is for its maker to say (`conditioning`).
        """
        return self.replace(denoiser=self._offering("for_features")(width, seed), conditioning=None)

    @property
    def guidance(self) -> float:
        """The scale of the denoiser's guidance."""
        scale: float = self._offering("guidance")
        return scale

    def with_guidance(self, scale: float) -> DenoiserGenerator:
        """Return this generator at another guidance scale."""
        return self.replace(denoiser=self._offering("with_guidance")(scale))

    def _offering(self, name: str) -> Any:
        """Return what the denoiser has by a name that only some denoisers have."""
        return getattr(self.denoiser, name)

    @property
    def _trainable(self) -> Trainable:
        return cast(Trainable, self.denoiser)
