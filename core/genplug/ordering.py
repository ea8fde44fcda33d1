"""What `genplug.sample` is asked for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genplug.config import flatten
from genplug.errors import ConfigError, nearest
from genplug.layers import layer
from genplug.matching import match_references
from genplug.parts import Part
from genplug.paths import check_target
from genplug.presets import registry
from genplug.registry import catalog
from genplug.resolving import references, resolve_generator
from genplug.weights import require_of

BATCH_SIZE = 64
_POLICIES = ("balanced", "random")
_TOP = 2**60  # seeds above belong to other purposes (`genplug.random.seed_range`)


@dataclass(frozen=True)
class Order:
    """Samples of a generator for consecutive seeds, and where they go."""

    reference: str
    count: int
    out: Path
    first: int = 0
    classes: Any = "balanced"
    batch_size: int = BATCH_SIZE
    options: Mapping[str, Any] = field(default_factory=dict)


def check(order: Order) -> Part:
    """Refuse what could not end well; return the generator (of a run its base) with its options."""
    if order.classes not in _POLICIES:
        hint = nearest(str(order.classes), _POLICIES)
        raise ConfigError(f"classes {order.classes!r}: expected balanced or random{hint}")
    if order.count < 1 or order.batch_size < 1:
        raise ConfigError(
            f"{order.count} samples in batches of {order.batch_size}: expected at least 1 of each"
        )
    if not 0 <= order.first <= _TOP - order.count:
        raise ConfigError(f"seeds {order.first} to {order.first + order.count - 1}: expected 0 to 2**60 - 1")
    installed = catalog()
    layers = layer({}, [(f"generator.{key}", value) for key, value in flatten(order.options)])
    data = registry(installed)
    part = resolve_generator(order.reference, installed, data, layers)
    seconds = references(part, installed, data)
    match_references(part, seconds)
    check_target(order.out, part.entry.spec.modality)
    require_of(part, seconds)
    return part
