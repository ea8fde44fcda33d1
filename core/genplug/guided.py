"""Guidance: one denoiser pushed away from another, D = D_guide + w (D_main - D_guide).

Classifier-free guidance (the guide is unconditional), autoguidance (the guide is a worse model of the
same kind, Karras et al. 2024, arXiv 2406.02507, equation 3) and mixtures differ in the guide alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genplug.checkpoints import load_strict
from genplug.condition import Condition
from genplug.denoiser import DenoiserGenerator
from genplug.errors import CapabilityError
from genplug.protocols import Denoiser, NoiseSpec

#: The guide's tensors have this prefix in a guided generator's weights; the main network's have none.
GUIDE = "guide."


@dataclass(frozen=True)
class GuidedDenoiser:
    """Two denoisers of equal x; it cannot be trained."""

    main: Denoiser
    guide: Denoiser
    guidance: float

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return self.main.x_shape

    @property
    def noise(self) -> NoiseSpec:
        """The main denoiser's noise levels."""
        return self.main.noise

    @property
    def provides(self) -> frozenset[str]:
        """What the main denoiser can do, without training."""
        return self.main.provides - {"trainable"}

    @property
    def device(self) -> torch.device:
        """Where the main network is."""
        return self.main.device

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma) guided; a guidance of 1 does not ask the guide."""
        main = self.main.denoise(x, sigma_N, cond)
        if self.guidance == 1:
            return main
        return torch.lerp(self.guide.denoise(x, sigma_N, cond), main, self.guidance)

    def full_precision(self) -> GuidedDenoiser:
        """Return the same two denoisers computing in float32 throughout."""
        return replace(self, main=_exact(self.main), guide=_exact(self.guide))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights of both: what samples depend on."""
        guide = {f"{GUIDE}{name}": value for name, value in _weights(self.guide).items()}
        return {**_weights(self.main), **guide}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the main network strictly, and the guide if there are weights of it."""
        theirs = {name.removeprefix(GUIDE): value for name, value in state.items() if name.startswith(GUIDE)}
        load_strict(_module(self.main), own_weights(state), "the generator")
        if theirs:
            load_strict(_module(self.guide), theirs, "the guide")


def own_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a generator's weights without those of its guide, as a preset's file holds them."""
    return {name: value for name, value in state.items() if not name.startswith(GUIDE)}


def guided(generator: DenoiserGenerator, guide: Any, guidance: float) -> DenoiserGenerator:
    """Return a generator guided away from another one, whose x must be of the same kind."""
    if not isinstance(guide, DenoiserGenerator):
        raise CapabilityError(f"a guide must be a denoiser with a codec, not {type(guide).__name__}")
    if guide.x_shape != generator.x_shape or type(guide.codec) is not type(generator.codec):
        raise CapabilityError(
            f"the guide's x is {guide.x_shape} by {type(guide.codec).__name__}, the generator's "
            f"{generator.x_shape} by {type(generator.codec).__name__}"
        )
    return generator.replace(denoiser=GuidedDenoiser(generator.denoiser, guide.denoiser, guidance))


def _module(denoiser: Any) -> Any:
    return denoiser.module


def _weights(denoiser: Any) -> dict[str, Tensor]:
    """Return a denoiser's weights; none for a denoiser without a network."""
    if isinstance(denoiser, GuidedDenoiser):
        return denoiser.state_dict()
    module = getattr(denoiser, "module", None)
    return module.state_dict() if module is not None else {}


def _exact(denoiser: Any) -> Any:
    exact = getattr(denoiser, "full_precision", None)
    return exact() if exact is not None else denoiser
