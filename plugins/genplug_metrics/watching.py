"""What happens while a network samples: which networks are called with how many rows, and how much is alive.

Both watch torch itself, so they work for any generator and any composition of networks, and on any device.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Calls:
    """Calls of networks: of modules that no other module called. `rows` counts their rows by class name."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.networks: dict[int, nn.Module] = {}
        self._depth = 0

    @property
    def parameters(self) -> int:
        """Number of different parameters of the networks that were called."""
        found = {id(p): p.numel() for network in self.networks.values() for p in network.parameters()}
        return sum(found.values())

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module is called."""
        if self._depth == 0:
            first = next((value for value in args if isinstance(value, Tensor) and value.ndim), None)
            self.rows[type(module).__name__] += 1 if first is None else len(first)
            self.networks[id(module)] = module
        self._depth += 1

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """It returned, or raised."""
        self._depth -= 1


@contextmanager
def watch_calls() -> Iterator[Calls]:
    """Count the calls of networks."""
    calls = Calls()
    hooks = [
        register_module_forward_pre_hook(calls.enter),
        register_module_forward_hook(calls.leave, always_call=True),
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


class LiveBytes(TorchDispatchMode):
    """Bytes of tensors made inside and alive at once (`peak`), without what one operation uses itself."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._held: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation; storages that it was given were there before, others are new."""
        self._meet((args, kwargs or {}), new=False)
        output = func(*args, **(kwargs or {}))
        self._meet(output, new=True)
        self.peak = max(self.peak, self._now)
        return output

    def _meet(self, values: Any, new: bool) -> None:
        for value in tree_leaves(values):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                key = storage._cdata
                if key not in self._held:
                    self._held[key] = storage.nbytes() * new
                    self._now += self._held[key]
                    weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self._now -= self._held.pop(key)
