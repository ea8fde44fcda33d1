"""What guidance adds to a denoiser's estimate: a direction, and how far at each noise level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from genplug.checkpoints import load_strict
from genplug.condition import Condition
from genplug.errors import WeightsError
from genplug.protocols import Denoiser


class Strength(Protocol):
    """How strong a push is at each noise level."""

    @property
    def scale(self) -> float:
        """The scale w; 1 is none."""

    def with_scale(self, scale: float) -> Strength:
        """Return the same course over the noise levels at another scale."""

    def excess(self, sigma_N: Tensor) -> Tensor:
        """Return w - 1 of each row, float32 N; 0 where there is no guidance."""


class Push(Protocol):
    """A direction that guidance moves the denoised x in, and how far."""

    @property
    def strength(self) -> Strength:
        """How far."""

    def with_strength(self, strength: Strength) -> Push:
        """Return the same direction at another strength."""

    def direction(self, x: Tensor, sigma_N: Tensor, cond: Condition | None, D: Tensor) -> Tensor:
        """Return what is added to D = D(x; sigma | cond) times w - 1, in the shape of x.

        It is called for the rows whose w is not 1, if there are any.
        """

    def full_precision(self) -> Push:
        """Return the same push computing in float32 throughout."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights that it depends on."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load these weights strictly."""


@dataclass(frozen=True)
class Constant:
    """The same w at every noise level."""

    scale: float

    def with_scale(self, scale: float) -> Constant:
        """Return another scale."""
        return Constant(scale)

    def excess(self, sigma_N: Tensor) -> Tensor:
        """Return w - 1 for every row."""
        return torch.full_like(sigma_N, self.scale - 1)


@dataclass(frozen=True)
class Away:
    """Push away from another denoiser's estimate: the direction D - G.

    `unconditioned` asks the guide without the condition. No guide is the main denoiser itself without
    its condition, which is evaluated together with it.
    """

    guide: Denoiser | None
    strength: Strength
    unconditioned: bool = False

    def with_strength(self, strength: Strength) -> Away:
        """Return the same guide at another strength."""
        return replace(self, strength=strength)

    def direction(self, x: Tensor, sigma_N: Tensor, cond: Condition | None, D: Tensor) -> Tensor:
        """Return D - G."""
        if self.guide is None:
            raise ValueError("without a guide the direction needs the main denoiser")
        cond = cond.null() if self.unconditioned and cond is not None else cond
        return D - self.guide.denoise(x, sigma_N, cond)

    def full_precision(self) -> Away:
        """Return the same push with a guide that computes in float32 throughout."""
        return replace(self, guide=exact(self.guide))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the guide's weights; none if it is the main denoiser."""
        return weights_of(self.guide)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the guide's weights."""
        load_into(self.guide, state, "the guide")


def weights_of(denoiser: Any) -> dict[str, Tensor]:
    """Return a denoiser's weights; none for a denoiser without a network."""
    module = getattr(denoiser, "module", None)
    if module is None and hasattr(denoiser, "state_dict"):
        return dict(denoiser.state_dict())
    return module.state_dict() if module is not None else {}


def load_into(denoiser: Any, state: Mapping[str, Tensor], what: str) -> None:
    """Load a denoiser's weights strictly."""
    if hasattr(denoiser, "module"):
        load_strict(denoiser.module, state, what)
    elif hasattr(denoiser, "load_state_dict"):
        denoiser.load_state_dict(state)
    elif state:
        raise WeightsError(f"weights do not fit {what}: it has none")


def exact(denoiser: Any) -> Any:
    """Return a denoiser that computes in float32 throughout; itself where it always does."""
    offered = getattr(denoiser, "full_precision", None)
    return offered() if offered is not None else denoiser
