"""The push of a gradient: D' = D + s sigma^2 grad_x of a potential, such as ln p(c | x, sigma).

The score is (D - x) / sigma^2, so adding s times a gradient to the score adds s sigma^2 times it to D.
s = 0 is none. Core's guidance scale, of which 1 is none, is w = 1 + s throughout.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.protocols import Denoiser, NoiseSpec
from genplug.pushes import Strength
from genplug_guidance.classifier import Potential

_GUIDE = "guide"


@dataclass(frozen=True)
class GradientPush:
    """Push along the gradient of a potential (`genplug.guided.Push`).

    `scrambled` moves the gradient's entries to other places with other signs, others at every noise
    level: as long, as dear to compute, and in no particular direction. It is the control. `facts` say
    where the potential is from.
    """

    potential: Potential
    strength: Strength
    scrambled: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    def with_strength(self, strength: Strength) -> GradientPush:
        """Return the same direction at another strength."""
        return replace(self, strength=strength)

    def direction(self, x: Tensor, sigma_N: Tensor, cond: Condition | None, D: Tensor) -> Tensor:
        """Return sigma^2 grad_x, in the shape of x."""
        return self.valued(x, sigma_N, cond)[1].to(D.dtype)

    def valued(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> tuple[Tensor, Tensor]:
        """Return the potential in nats, N, and sigma^2 grad_x of it, float32."""
        value_N, grad = gradient(self.potential, x, sigma_N, cond)
        grad = scrambled(grad, sigma_N) if self.scrambled else grad
        return value_N, grad * sigma_N.to(grad).square().reshape(-1, *(1 for _ in x.shape[1:]))

    def full_precision(self) -> GradientPush:
        """Return itself: gradients are computed in float32 anyway."""
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Return the classifier's weights."""
        return self.potential.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the classifier's weights."""
        self.potential.load_state_dict(state)


def gradient(
    potential: Potential, x: Tensor, sigma_N: Tensor, cond: Condition | None
) -> tuple[Tensor, Tensor]:
    """Return a potential, N, and its gradient with respect to x, whatever mode the caller is in.

    Sampling runs in inference mode, whose tensors autograd refuses: they are copied.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        leaf = x.detach().to(torch.float32, copy=True)
        leaf.requires_grad_(True)
        value_N = potential(leaf, sigma_N.to(leaf, copy=True), _copied(cond))
        (grad,) = torch.autograd.grad(value_N.sum(), leaf)
    return value_N.detach(), grad


def _copied(cond: Condition | None) -> Condition | None:
    """Return a condition whose tensors autograd may keep: indexing with a tensor copies."""
    return None if cond is None else cond.take(torch.arange(len(cond)))


def scrambled(grad: Tensor, sigma_N: Tensor) -> Tensor:
    """Return each row's entries in other places with other signs, others at every noise level."""
    result = torch.empty_like(grad)
    levels_N = (sigma_N.clamp(min=1e-12).log() * 1000).round().long()  # equal up to rounding is equal
    for level in levels_N.unique().tolist():
        g = torch.Generator().manual_seed(zlib.crc32(f"scrambled {level}".encode()))
        size, rows_N = grad[0].numel(), levels_N == level
        order_D = torch.randperm(size, generator=g).to(grad.device)
        sign_D = (torch.randint(2, (size,), generator=g) * 2 - 1).to(grad)
        result[rows_N] = (grad[rows_N].flatten(1)[:, order_D] * sign_D).reshape(-1, *grad.shape[1:])
    return result


@dataclass(frozen=True)
class InBands:
    """A strength within some noise bins alone, given by their edges in sigma, ascending, B + 1."""

    inner: Strength
    edges: tuple[float, ...]
    active: tuple[bool, ...]

    @property
    def scale(self) -> float:
        """The scale w within them; 1 is none."""
        return self.inner.scale

    def with_scale(self, scale: float) -> InBands:
        """Return the same bins at another scale."""
        return replace(self, inner=self.inner.with_scale(scale))

    def excess(self, sigma_N: Tensor) -> Tensor:
        """Return w - 1 of each row; 0 outside of the active bins."""
        edges_E = torch.tensor(self.edges, dtype=torch.float64, device=sigma_N.device)
        # a level on the outermost edges, where samplers begin and end, belongs to its bin
        number_N = torch.bucketize(sigma_N.double() * (1 + 1e-6), edges_E[1:-1])
        within_N = (sigma_N >= edges_E[0] * (1 - 1e-6)) & (sigma_N <= edges_E[-1] * (1 + 1e-6))
        active_N = torch.tensor(self.active, device=sigma_N.device)[number_N] & within_N
        return self.inner.excess(sigma_N) * active_N


@dataclass(frozen=True)
class Unconditioned:
    """A denoiser asked without its condition: the D_u that a classifier's gradient conditions."""

    inner: Denoiser

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return self.inner.x_shape

    @property
    def noise(self) -> NoiseSpec:
        """The noise levels."""
        return self.inner.noise

    @property
    def provides(self) -> frozenset[str]:
        """What the denoiser can do but for training; labels are for the classifier."""
        return self.inner.provides - {"trainable", "feature-trainable", "null-label"} | {"class-conditional"}

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.inner.device

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma) without the condition."""
        return self.inner.denoise(x, sigma_N, cond.null() if cond is not None else None)

    def full_precision(self) -> Unconditioned:
        """Return the same computing in float32 throughout."""
        exact: Any = getattr(self.inner, "full_precision", None)
        return replace(self, inner=exact()) if exact is not None else self

    def state_dict(self) -> dict[str, Tensor]:
        """Return the denoiser's weights; those of guides inside have a prefix, apart from those outside."""
        module: Any = getattr(self.inner, "module", self.inner)
        if not hasattr(module, "state_dict"):
            return {}
        return {_inside(name): value for name, value in module.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the denoiser's weights strictly."""
        module: Any = getattr(self.inner, "module", self.inner)
        module.load_state_dict({name.removeprefix("inside."): value for name, value in state.items()})


def _inside(name: str) -> str:
    return f"inside.{name}" if name.startswith(_GUIDE) else name
