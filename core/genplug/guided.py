"""Guidance: a denoiser whose estimate is pushed, D' = D + sum over pushes of (w - 1) direction.

With a second denoiser G the direction is D - G, so that D' = G + w (D - G): classifier-free guidance (G
has no condition) and autoguidance (G is a worse model of the same kind, Karras et al. 2024, arXiv
2406.02507, equation 3) differ in G alone. With a classifier it is sigma^2 times a gradient. Everywhere
w = 1 is no guidance. Pushes of one denoiser add up, in any order, each measured from the plain D.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.denoiser import DenoiserGenerator
from genplug.errors import CapabilityError
from genplug.protocols import Denoiser, NoiseSpec
from genplug.pushes import Away, Constant, Push, Strength, exact, load_into, weights_of

#: Tensors of pushes have a prefix in a guided generator's weights (`guide.`, `guide2.`); the main
#: network's have none.
_GUIDES = re.compile(r"guide\d*\.")

#: What only a denoiser that can be trained does.
_TRAINING = frozenset({"trainable", "feature-trainable", "null-label"})


@dataclass(frozen=True)
class GuidedDenoiser:
    """A denoiser and the pushes on its estimate; it cannot be trained."""

    main: Denoiser
    pushes: tuple[Push, ...]

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
        """What the main denoiser can do but for training, and a scale that can be changed."""
        return self.main.provides - _TRAINING | {"guided"}

    @property
    def device(self) -> torch.device:
        """Where the main network is."""
        return self.main.device

    @property
    def guidance(self) -> float:
        """The scale of the last push."""
        return self.pushes[-1].strength.scale

    def with_guidance(self, scale: float) -> GuidedDenoiser:
        """Return the same denoiser with the last push at another scale."""
        *others, last = self.pushes
        return replace(self, pushes=(*others, last.with_strength(last.strength.with_scale(scale))))

    def suspicion(self) -> str:
        """Return the scales, as what may make samples diverge."""
        scales = " and ".join(f"{push.strength.scale:g}" for push in self.pushes)
        return f"guidance {scales}; lower the scale"

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma) guided; rows at w = 1 ask no guide."""
        excesses = [push.strength.excess(sigma_N) for push in self.pushes]
        needing = [excess_N != 0 for push, excess_N in zip(self.pushes, excesses, strict=True) if _own(push)]
        D, null = self._main(x, sigma_N, cond, needing)
        guided = D
        for push, excess_N in zip(self.pushes, excesses, strict=True):
            rows = _chosen(excess_N != 0)
            if rows is None:
                continue
            if _own(push):
                direction = D[rows] - null[rows]
            else:
                direction = push.direction(x[rows], sigma_N[rows], _take(cond, rows), D[rows])
            guided = _pushed(guided, rows, excess_N[rows], direction)
        return guided

    def _main(
        self, x: Tensor, sigma_N: Tensor, cond: Condition | None, needing: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the main denoiser's estimates, and those without condition in the rows that need them.

        Labels can be dropped row by row: then both are one forward, which is faster than two small ones.
        """
        rows = _chosen(reduce(torch.logical_or, needing)) if needing else None
        if rows is None or cond is None or cond.is_null:
            D = self.main.denoise(x, sigma_N, cond)
            return D, D
        xs, sigmas_N, taken = x[rows], sigma_N[rows], cond.take(rows)
        if cond.labels_N is not None:
            both = Condition.cat([cond, taken.dropped(torch.ones(len(taken), dtype=torch.bool))])
            D_both = self.main.denoise(torch.cat([x, xs]), torch.cat([sigma_N, sigmas_N]), both)
            D, nulls = D_both[: len(x)], D_both[len(x) :]
        else:
            D, nulls = self.main.denoise(x, sigma_N, cond), self.main.denoise(xs, sigmas_N, taken.null())
        if isinstance(rows, slice):
            return D, nulls
        return D, D.index_copy(0, rows, nulls)

    def full_precision(self) -> GuidedDenoiser:
        """Return the same denoiser and pushes computing in float32 throughout."""
        pushes = tuple(push.full_precision() for push in self.pushes)
        return replace(self, main=exact(self.main), pushes=pushes)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights of all networks: what samples depend on."""
        state = dict(weights_of(self.main))
        for prefix, push in self._named():
            state |= {f"{prefix}{name}": value for name, value in push.state_dict().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the main network strictly, and those of pushes that there are weights of."""
        load_into(self.main, own_weights(state), "the generator")
        for prefix, push in self._named():
            theirs = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
            if theirs:
                push.load_state_dict(theirs)

    def _named(self) -> list[tuple[str, Push]]:
        """Return the pushes with the prefixes of their weights."""
        return [(f"guide{number if number > 1 else ''}.", push) for number, push in enumerate(self.pushes, 1)]


def own_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a generator's weights without those of its guides, as a preset's file holds them."""
    return {name: value for name, value in state.items() if not _GUIDES.match(name)}


def guided(
    generator: DenoiserGenerator, guide: Any, guidance: float | Strength, unconditioned: bool = False
) -> DenoiserGenerator:
    """Return a generator guided away from another one, whose x must be of the same kind.

    `unconditioned` asks the guide without the condition. None is the generator itself, asked so.
    """
    strength = Constant(guidance) if isinstance(guidance, (int, float)) else guidance
    if guide is None:
        if "unconditional" not in generator.provides:
            raise CapabilityError(
                "the generator has no trained branch without condition to be guided away from"
            )
        return pushed(generator, Away(None, strength, unconditioned=True))
    if not isinstance(guide, DenoiserGenerator):
        raise CapabilityError(f"a guide must be a denoiser with a codec, not {type(guide).__name__}")
    if guide.x_shape != generator.x_shape or type(guide.codec) is not type(generator.codec):
        raise CapabilityError(
            f"the guide's x is {guide.x_shape} by {type(guide.codec).__name__}, the generator's "
            f"{generator.x_shape} by {type(generator.codec).__name__}"
        )
    return pushed(generator, Away(guide.denoiser, strength, unconditioned))


def pushed(generator: DenoiserGenerator, push: Push) -> DenoiserGenerator:
    """Return a generator with one more push on its denoiser."""
    denoiser = generator.denoiser
    if isinstance(denoiser, GuidedDenoiser):
        return generator.replace(denoiser=replace(denoiser, pushes=(*denoiser.pushes, push)))
    return generator.replace(denoiser=GuidedDenoiser(denoiser, (push,)))


def _own(push: Push) -> bool:
    """Return whether a push is away from the main denoiser's own estimate without condition."""
    return isinstance(push, Away) and push.guide is None


def _chosen(rows_N: Tensor) -> Tensor | slice | None:
    """Return the indices of true rows: a slice if all are, None if none is."""
    if bool(rows_N.all()):
        return slice(None)
    return rows_N.nonzero().flatten() if bool(rows_N.any()) else None


def _take(cond: Condition | None, rows: Tensor | slice) -> Condition | None:
    return cond.take(rows) if cond is not None and not isinstance(rows, slice) else cond


def _pushed(D: Tensor, rows: Tensor | slice, excess_n: Tensor, direction: Tensor) -> Tensor:
    """Return D with excess * direction added in some rows."""
    added = excess_n.to(D.dtype).reshape(-1, *(1 for _ in D.shape[1:])) * direction
    return D + added if isinstance(rows, slice) else D.index_add(0, rows, added)
