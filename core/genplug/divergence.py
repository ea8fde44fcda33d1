"""Where sampling diverged: the batch is integrated again while each call of the denoiser is watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Suspect(Protocol):
    """A denoiser that knows what about it may make samples diverge."""

    def suspicion(self) -> str:
        """Return that with a remedy: `guidance 40; lower the scale`."""


class Watch:
    """A denoiser that remembers at which noise level the first broken row of a batch broke.

    `x` is what the batch became; at least one of its rows is not finite.
    """

    def __init__(self, denoise: Denoise, x: Tensor) -> None:
        self.denoise = denoise
        self.row = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        self.sigma: float | None = None
        self.broken = False

    def __call__(self, x: Tensor, sigma_N: Tensor) -> Tensor:
        """Return D(x; sigma). A row that comes in broken was broken by the step before."""
        D = self.denoise(x, sigma_N)
        self.broken = self.broken or not bool(x[self.row].isfinite().all())
        if not self.broken:
            self.sigma = float(sigma_N[self.row])
            self.broken = not bool(D[self.row].isfinite().all())
        return D

    def place(self, sigmas: Tensor) -> str:
        """Return the step of a sampler's noise levels, high to low, as the end of a sentence."""
        if self.sigma is None:
            return ""
        step = int((sigmas[:-1].cpu() - self.sigma).abs().argmin()) + 1
        return f" from step {step} of {len(sigmas) - 1} (sigma {self.sigma:.3g})"


def suspicion(denoiser: Any) -> str:
    """Return what a denoiser itself suspects, as the end of a sentence."""
    return f", at {denoiser.suspicion()}" if isinstance(denoiser, Suspect) else ""
