"""Where the weights under training live: whole in every process, or in shards over all of them (FSDP2).

A loop sees no difference: it steps through `wrapped`, calls `finish_gradients` after backward, and
reads whole tensors with `gathered`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genplug.errors import ConfigError

if TYPE_CHECKING:
    from genplug.runtime import Run

#: Makes an optimiser of groups of parameters.
MakeOptimiser = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def place(run: Run, modules: Mapping[str, nn.Module], make: MakeOptimiser) -> Replicated | Sharded:
    """Place a network, `modules["raw"]`, with its averages and its optimiser."""
    return (Sharded if shards(run) else Replicated)(run, modules, make)


def shards(run: Run) -> bool:
    """Return whether training shards: asked for here or by `accelerate launch --use_fsdp`, and several."""
    asked = run.resolved is not None and run.resolved.runtime.sharding == "full"
    launched = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    wanted = (asked or launched) and run.accelerator.num_processes > 1
    if wanted:
        from torch.distributed.fsdp import fully_shard

        if "ignored_params" not in inspect.signature(fully_shard).parameters:
            raise ConfigError(f"sharding needs torch 2.7 or newer; this is {torch.__version__}")
    return wanted


class Replicated:
    """Whole weights in every process; with several of them DDP averages the gradients."""

    def __init__(self, run: Run, modules: Mapping[str, nn.Module], make: MakeOptimiser) -> None:
        self._accelerator = run.accelerator
        groups = [{"params": list(modules["raw"].parameters())}]
        self.wrapped, self.optimiser = run.accelerator.prepare(modules["raw"], make(groups))

    def finish_gradients(self, clip: float) -> None:
        """Make gradients ready for the optimiser: clip their norm (0: do not)."""
        if clip:
            self._accelerator.clip_grad_norm_(self.wrapped.parameters(), clip)


class Sharded:
    """Each process holds a part of every weight, gradient, average and of the optimiser's state.

    Scalars stay whole, since FSDP2 cannot split them: their gradients are averaged here.
    """

    def __init__(self, run: Run, modules: Mapping[str, nn.Module], make: MakeOptimiser) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        self._accelerator = run.accelerator
        mesh = init_device_mesh(run.device.type, (run.accelerator.num_processes,))
        for module in modules.values():
            shard(module, mesh)
        network = modules["raw"]
        self.wrapped = run.accelerator.prepare_model(network, evaluation_mode=True)  # precision, no DDP
        parts = [p for p in network.parameters() if p.ndim > 0]
        self._scalars = [p for p in network.parameters() if p.ndim == 0]
        self._groups = [group for group in (parts, self._scalars) if group]
        self.optimiser = make([{"params": group} for group in self._groups])

    def finish_gradients(self, clip: float) -> None:
        """Average the scalars' gradients over processes and clip the norm of all (0: do not)."""
        grads = [p.grad for p in self._scalars if p.grad is not None]
        if grads:
            means = self._accelerator.reduce(torch.stack(grads), "mean")
            for grad, mean in zip(grads, means, strict=True):
                grad.copy_(mean)
        if clip:
            self._clip(clip)

    def _clip(self, largest: float) -> None:
        norms = [
            whole(torch.nn.utils.get_total_norm([p.grad for p in group if p.grad is not None]))
            for group in self._groups
            if any(p.grad is not None for p in group)
        ]
        total = torch.stack(norms).norm()
        for group in self._groups:
            torch.nn.utils.clip_grads_with_norm_(group, largest, total)


def shard(module: nn.Module, mesh: Any) -> None:
    """Replace parameters by shards, in place; each element of a list or dict of modules is a unit.

    A unit's weights are whole only while it computes. Inner units first, as FSDP2 asks.
    """
    from torch.distributed.fsdp import fully_shard

    lists = (nn.ModuleList, nn.ModuleDict)
    blocks = [child for part in module.modules() if isinstance(part, lists) for child in part.children()]
    for unit in [*reversed([block for block in blocks if not isinstance(block, lists)]), module]:
        scalars = {p for p in unit.parameters() if p.ndim == 0}
        fully_shard(unit, mesh=mesh, ignored_params=scalars)


def whole(tensor: Any) -> Any:
    """Return a shard's whole tensor (all processes must ask); anything else as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def gathered(state: Any, keep: bool) -> Any:
    """Return a nested state with whole tensors; all processes must ask, those that `keep` get them."""
    if isinstance(state, Mapping):
        found = {key: gathered(value, keep) for key, value in state.items()}
        return found if keep else {}
    full = whole(state)
    return full.cpu() if keep and full is not state else full


def scattered(tensor: Any, like: Any) -> Any:
    """Return a whole tensor, the same in every process, in shards as `like` has them."""
    if not hasattr(like, "full_tensor") or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    on_device = tensor.to(device=like.device)
    return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)


def load_module(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a network, sharded or not."""
    own = module.state_dict()
    module.load_state_dict({name: scattered(value, own.get(name)) for name, value in state.items()})


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load what `gathered` made of an optimiser's state."""
    parameters = list(_parameters(optimiser))
    moments = {
        number: {name: scattered(value, parameters[number]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": moments})


def _parameters(optimiser: torch.optim.Optimizer) -> Iterable[Tensor]:
    for group in optimiser.param_groups:
        yield from group["params"]
