"""What `genplug sample` is asked for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genplug.config import flatten, nest, parse_set
from genplug.errors import ConfigError, DataError, nearest
from genplug.presets import registry
from genplug.registry import catalog
from genplug.resolve import Part, layer, resolve_generator

_POLICIES = ("balanced", "random")
_TOP = 2**60  # seeds above belong to other purposes (`genplug.random.seed_range`)


@dataclass(frozen=True)
class Order:
    """What was asked for."""

    reference: str
    out: Path
    first: int
    count: int
    classes: Any
    batch: int
    values: Mapping[str, Any]


def check(order: Order) -> Part:
    """Refuse what could not end well; return the generator (for a run its base) with its options."""
    if order.classes not in _POLICIES:
        hint = nearest(order.classes, _POLICIES)
        raise ConfigError(f"--classes {order.classes!r}: expected balanced or random{hint}")
    if order.out.exists():
        raise DataError(f"{order.out} exists; name another place")
    installed = catalog()
    layers = layer({}, [(f"generator.{key}", value) for key, value in flatten(order.values)])
    part = resolve_generator(order.reference, installed, registry(installed), layers)
    if part.entry.spec.modality == "points" and order.out.suffix != ".npz":
        raise DataError(f"{order.reference} makes points; they can be written to .npz, not to {order.out}")
    return part


def seed_span(text: str, number: int | None) -> tuple[int, int]:
    """Return first seed and count from `--seeds A`, or `A:B` without B, and `-n`."""
    start, colon, stop = text.partition(":")
    if not start.isdecimal() or (colon and not stop.isdecimal()):
        raise ConfigError(f"--seeds {text!r}: expected the first seed, or A:B as in 0:64")
    count = int(stop) - int(start) if colon else number
    if count is None:
        raise ConfigError("how many samples? give -n N or --seeds A:B")
    if count < 1 or int(start) + count > _TOP:
        raise ConfigError(f"--seeds {text!r}: expected A < B, at most 2**60")
    if number is not None and count != number:
        raise ConfigError(f"--seeds {text!r} are {count} seeds, -n says {number}")
    return int(start), count


def generator_values(texts: list[str] | None) -> dict[str, Any]:
    """Return `--set generator.KEY=VALUE` as nested options of the generator."""
    sets = [parse_set(text) for text in texts or ()]
    for key, _ in sets:
        if not key.startswith("generator."):
            raise ConfigError(f"unknown key {key!r} (from --set {key}); did you mean 'generator.{key}'?")
    return dict(nest(dict(sets)).get("generator", {}))
