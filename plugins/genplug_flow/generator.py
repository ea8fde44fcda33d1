"""`FlowedGenerator`: any generator followed by a flow that moves its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genplug.checkpoints import load_strict
from genplug.condition import Condition
from genplug.errors import NonFiniteError, WeightsError
from genplug.protocols import Policy
from genplug.samplesets import check_finite, not_finite
from genplug_flow.solvers import Solution, Solver
from genplug_flow.space import Space
from genplug_flow.velocity import Velocity, class_weights

#: What a generator loses: its x is no longer the end of its own sampling.
REMOVED = ("denoiser", "likelihood", "trainable", "unconditional", "null-label", "feature-trainable")
BASE, FLOW = "base.", "flow."


@dataclass(frozen=True)
class FlowedGenerator:
    """A generator whose samples a flow moves: same seeds, same conditions, same size."""

    base: Any
    velocity: Velocity
    solver: Solver

    @property
    def provides(self) -> frozenset[str]:
        """The base's capabilities without those of a network of its own."""
        has: frozenset[str] = self.base.provides
        return has - set(REMOVED)

    @property
    def modality(self) -> str:
        """The base's modality."""
        return str(self.base.modality)

    @property
    def size(self) -> int | None:
        """How many samples the base has."""
        size: int | None = self.base.size
        return size

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return self.velocity.sizes.x_shape

    def conditions(self, seeds_N: Tensor, policy: Policy = "balanced") -> Condition | None:
        """Return the base's conditions of seeds."""
        cond: Condition | None = self.base.conditions(seeds_N, policy)
        return cond

    def encode(self, samples: Tensor, noise: Any = None) -> Tensor:
        """Return samples as x."""
        return Space(self.base).encode(samples, noise)

    def decode(self, x: Tensor) -> Tensor:
        """Return x as samples."""
        return Space(self.base).decode(x)

    def sample(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        """Return one moved sample per seed."""
        return self.decode(self.sample_x(seeds_N, cond))

    def sample_x(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the x of one moved sample per seed; `NonFiniteError` names a seed that diverges."""
        space = Space(self.base)
        x = space.x(space.draw(seeds_N, cond).to(self.device))
        check_finite(x, seeds_N)
        moved = self.move(x, cond).x
        if not bool(moved.isfinite().all()):
            raise NonFiniteError(
                f"{not_finite(moved, seeds_N)} after the flow; take more objective.steps, or train it at a "
                "lower objective.train.lr"
            )
        return moved

    @torch.no_grad()
    def move(self, x: Tensor, cond: Condition | None = None) -> Solution:
        """Return where the flow moves x, and at how many evaluations of its network."""
        weights_NK = class_weights(cond, self.velocity.sizes.classes)
        weights_NK = weights_NK if weights_NK is None else weights_NK.to(x.device)

        def velocity(x: Tensor, t_A: Tensor, rows_A: Tensor) -> Tensor:
            own = None if weights_NK is None else weights_NK[rows_A]
            moved: Tensor = self.velocity(x, t_A, own)
            return moved

        return self.solver.solve(velocity, x)

    @property
    def device(self) -> torch.device:
        """Where the flow's weights are."""
        return next(self.velocity.parameters()).device

    @property
    def guidance(self) -> float:
        """The base's guidance scale, if it has one."""
        scale: float = self.base.guidance
        return scale

    def with_guidance(self, scale: float) -> FlowedGenerator:
        """Return the same flow after the base at another guidance scale."""
        return replace(self, base=self.base.with_guidance(scale))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights of base and flow."""
        base = {f"{BASE}{name}": value for name, value in self.base.state_dict().items()}
        return base | {f"{FLOW}{name}": value for name, value in self.velocity.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of base and flow strictly."""
        if other := [name for name in state if not name.startswith((BASE, FLOW))]:
            raise WeightsError(f"weights do not fit a generator with a flow: extra {other[0]}")
        self.base.load_state_dict(_part(state, BASE))
        load_strict(self.velocity, _part(state, FLOW), "the flow")


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
