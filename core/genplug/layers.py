"""Layers of a configuration: the user's file under `--set`, every value with where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from genplug.config import flatten, merge, nest, origin_of
from genplug.errors import ConfigError, nearest, shown

SECTIONS = (
    "run",
    "runtime",
    "generator",
    "objective",
    "sweep",
    "dataset",
    "extractor",
    "evaluator",
    "preset",
)


@dataclass(frozen=True)
class Layers:
    """Values by section with their origins, merged from the registry, a file and `--set`."""

    values: dict[str, Any]
    origins: dict[str, str]
    sets: Mapping[str, Any] = field(default_factory=dict)

    def section(self, name: str) -> Mapping[str, Any]:
        """Return one section as a mapping."""
        return section_of(self.values, name, name)

    def with_value(self, key: str, value: Any, origin: str) -> Layers:
        """Return these layers with one value on top of all."""
        return replace(
            self, values=merge(self.values, nest({key: value})), origins={**self.origins, key: origin}
        )


def section_of(values: Mapping[str, Any], name: str, key: str) -> Mapping[str, Any]:
    """Return a section inside a mapping, empty if it is not there; `key` is its full name."""
    value = values.get(name, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key!r} must be a section, not {shown(value)}")
    return value


def name_of(values: Mapping[str, Any], key: str, section: str) -> str | None:
    """Return a name or path that a section holds beside its component's options."""
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"bad value for '{section}.{key}': expected a name (got {shown(value)})")
    return value


def layer(
    file: Mapping[str, Any],
    sets: Sequence[tuple[str, Any]],
    file_name: str = "",
    sections: Sequence[str] = SECTIONS,
) -> Layers:
    """Merge a configuration file with `--set` assignments; sections of other names are refused."""
    flat = dict(sets)
    file = {key: _numbered(value) if key == "objective" else value for key, value in file.items()}
    origins = {key: file_name for key, _ in flatten(file)} | {key: f"--set {key}" for key in flat}
    values = merge(file, nest(flat)) if flat else dict(file)
    for section in values:
        if section not in sections:
            hint = nearest(section, sections) or f" (known: {', '.join(sections)})"
            raise ConfigError(f"unknown section {section!r}{origin_of(section, origins)}{hint}")
    return Layers(values, origins, nest(flat))


def _numbered(value: Any) -> Any:
    """Return `[[objective]]` tables as sections: one as itself, several by their number from 1."""
    if not isinstance(value, list):
        return value
    return value[0] if len(value) == 1 else {str(number): item for number, item in enumerate(value, 1)}
