"""Where in a foreign file the wanted network is: the part of a container, the prefix of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genplug.errors import WeightsError, nearest
from genplug.foreign.machine import Reading
from genplug.foreign.networks import is_network, state_dict
from genplug.foreign.tensors import LONGEST_NAME, checked_name, is_tensor
from genplug.foreign.values import Holder, shown

#: Parts that are taken unasked, averaged weights first: published scores are theirs.
PARTS = ("ema", "G_ema", "model_ema", "state_dict", "model")
#: What wrappers put before every name.
WRAPPERS = ("module.", "_orig_mod.")
#: What training scripts put before the names of the network among those of other models.
PREFIXES = ("model.diffusion_model.",)
MOST_NAMED = 8


@dataclass(frozen=True)
class Found:
    """Stored tensors by name, and where they were."""

    tensors: Mapping[str, Any]
    part: str
    prefix: str
    network: Holder | None
    container: Any
    left_out: tuple[str, ...] = ()


def find(value: Any, part: str | None, prefix: str, reading: Reading) -> Found:
    """Return the state dict that `part` and `prefix` name, or the one that is meant without them."""
    name, chosen = _choose(value, part, reading)
    network = chosen if is_network(chosen) else None
    tensors = state_dict(network, reading) if network else _tensors(chosen, reading)
    if not tensors:
        raise WeightsError(f"{reading.source}: its network {shown(name)} has no weights")
    left_out = () if network else tuple(str(key)[:80] for key in chosen if key not in tensors)
    tensors, prefix = _strip(tensors, prefix, reading)
    return Found(tensors, name, prefix, network, value, left_out)


def _choose(value: Any, part: str | None, reading: Reading) -> tuple[str, Any]:
    """Return name and value of the part; the file itself has the empty name."""
    parts = _parts(value)
    listing = ", ".join(shown(name) if name else "its own tensors" for name in list(parts)[:MOST_NAMED])
    if part is not None:
        if part in parts:
            return part, parts[part]
        near = nearest(part, list(parts)[:MOST_NAMED])
        raise WeightsError(f"{reading.source} has no part {part!r}{near} (it has {listing or 'none'})")
    if not parts:
        raise WeightsError(f"{reading.source} has no tensors by name and no network")
    for name in PARTS if len(parts) > 1 else parts:
        if name in parts:
            return name, parts[name]
    raise WeightsError(f"{reading.source} has several parts: {listing}; choose one (--part NAME)")


def _parts(value: Any) -> dict[str, Any]:
    """Return what could be meant: the value itself, its members, and theirs as `a.b`.

    Many names may lead to one object; each is looked into once.
    """
    judged: dict[int, bool] = {}

    def holds(item: Any) -> bool:
        if id(item) not in judged:
            judged[id(item)] = _holds_weights(item)
        return judged[id(item)]

    found, opened = {"": value} if holds(value) else {}, {id(value)}
    for name, member in _members(value):
        if holds(member):
            found[name] = member
        elif id(member) not in opened:
            opened.add(id(member))
            found |= {f"{name}.{inner}": item for inner, item in _members(member) if holds(item)}
    return found


def _members(value: Any) -> list[tuple[str, Any]]:
    """Return the members of a dictionary that have a name of usual length."""
    if not isinstance(value, dict):
        return []
    return [(key, item) for key, item in value.items() if type(key) is str and len(key) <= LONGEST_NAME]


def _holds_weights(value: Any) -> bool:
    return is_network(value) or any(is_tensor(item) for _, item in _members(value))


def _tensors(value: Mapping[Any, Any], reading: Reading) -> dict[str, Any]:
    """Return the tensors among the members of a dictionary."""
    return {checked_name(key, reading.source): item for key, item in value.items() if is_tensor(item)}


def _strip(tensors: dict[str, Any], prefix: str, reading: Reading) -> tuple[dict[str, Any], str]:
    """Return the tensors below a prefix by their names there, and the whole prefix."""
    if prefix:
        return _below(tensors, prefix if prefix.endswith(".") else f"{prefix}.", reading)
    stripped = ""
    while wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in tensors)), ""):
        tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
        stripped += wrapper
    for known in PREFIXES:
        if any(name.startswith(known) for name in tensors):
            tensors, _ = _below(tensors, known, reading)
            stripped += known
    return tensors, stripped


def _below(tensors: dict[str, Any], prefix: str, reading: Reading) -> tuple[dict[str, Any], str]:
    found = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
    if not found:
        heads = sorted({name.partition(".")[0] for name in tensors})
        listing = ", ".join(shown(head) for head in heads[:MOST_NAMED])
        raise WeightsError(f"{reading.source} has no tensors below {prefix!r} (names start with {listing})")
    return found, prefix
