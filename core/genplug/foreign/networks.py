"""State dicts from network objects, and what the objects say about themselves.

A pickled network is a tree of module objects whose `__dict__` has `_parameters`, `_buffers` and
`_modules`; joining the names gives the keys of the usual state dict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from genplug.foreign.machine import Reading
from genplug.foreign.tensors import checked_name, is_tensor
from genplug.foreign.values import Array, Global, Holder, shown
from genplug.foreign.vocabulary import numbers

DEEPEST_FACT, MOST_FACTS, LONGEST_FACT = 6, 2000, 500


def is_network(value: Any) -> bool:
    """Tell whether a value is a module object."""
    return isinstance(value, Holder) and {"_parameters", "_buffers", "_modules"} <= set(value.state)


def state_dict(network: Holder, reading: Reading) -> dict[str, Any]:
    """Return the stored tensors of a network by their usual names; no object is visited twice."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    waiting = [("", network)]
    while waiting:
        prefix, module = waiting.pop()
        if not is_network(module):
            raise reading.refused(f"{shown(prefix)} is no module")
        for name, value in _members(module, ("_parameters", "_buffers"), seen, reading):
            if not is_tensor(value):
                raise reading.refused(f"{shown(prefix + name)} is no tensor")
            found[checked_name(prefix + name, reading.source)] = value
        children = _members(module, ("_modules",), seen, reading)
        waiting += [(checked_name(f"{prefix}{name}.", reading.source), child) for name, child in children]
    return found


def _members(
    module: Holder, kinds: tuple[str, ...], seen: set[int], reading: Reading
) -> list[tuple[str, Any]]:
    """Return a module's named members without those that are switched off (None)."""
    found = []
    for kind in kinds:
        members = module.state[kind]
        if type(members) is not dict or any(type(name) is not str for name in members):
            raise reading.refused(f"{kind} of a {shown(module.name)} are not named")
        if id(members) in seen:
            raise reading.refused(f"a module {shown(module.name)} is in it twice or within itself")
        seen.add(id(members))
        found += [(name, value) for name, value in members.items() if value is not None]
    return found


def facts(network: Holder, container: Any) -> dict[str, Any]:
    """Return what is known besides the weights, as JSON: class, constructor call, encoder, data."""
    plain = _Plain()
    said = {
        "class_name": plain(network.name),
        "init_args": plain(network.state.get("_init_args", ())),
        "init_kwargs": plain(network.state.get("_init_kwargs", {})),
        "attributes": plain(_attributes(network)),
    }
    if isinstance(container, Mapping):
        encoder = container.get("encoder")
        if isinstance(encoder, Holder):
            said["encoder"] = plain({"class_name": encoder.name} | _attributes(encoder))
        if "dataset_kwargs" in container:
            said["dataset_kwargs"] = plain(container["dataset_kwargs"])
    return said


def _attributes(holder: Holder) -> dict[str, Any]:
    """Return an object's public attributes."""
    return {
        name: value
        for name, value in holder.state.items()
        if isinstance(name, str) and not name.startswith("_") and name != "training" and value is not None
    }


class _Plain:
    """Turns inert values into JSON, and stops where there is too much of it."""

    def __init__(self) -> None:
        self.left = MOST_FACTS

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > DEEPEST_FACT:
            return "..."
        if isinstance(value, dict):
            return {str(key)[:LONGEST_FACT]: self(item, depth + 1) for key, item in self._some(value.items())}
        if isinstance(value, list | tuple | set):
            return [self(item, depth + 1) for item in self._some(value)]
        if isinstance(value, Array) and value.dtype is not None:
            return self([*self._some(numbers(value.dtype, value.data[: 8 * MOST_FACTS]))], depth)
        return _scalar(value)

    def _some(self, values: Any) -> Any:
        """Return as many members as may still be said."""
        return [item for item, _ in zip(values, range(max(self.left, 0)), strict=False)]


def _scalar(value: Any) -> Any:
    """Return a value without members as JSON; one that JSON does not have by its kind."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value[:LONGEST_FACT]
    return str(value) if isinstance(value, Global) else f"({type(value).__name__.lower()})"
