"""TOML that a user wrote: whatever is in it, it is read or refused with one `ValueError`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

DEPTH = 20  # tables within tables; what merges configurations calls itself once for each


def parse(text: str) -> dict[str, Any]:
    """Return a TOML document as a dictionary; what is nested too deeply is refused too."""
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _is_deep(values):
        raise ValueError(f"nested too deeply (more than {DEPTH} levels)")
    return values


def parse_value(text: str) -> Any:
    """Return one TOML value, or the text itself if it is none."""
    try:
        values = parse(f"value = {text}")
    except ValueError:
        return text
    return values["value"] if values.keys() == {"value"} else text


def _is_deep(values: Any) -> bool:
    """Tell whether containers are nested beyond `DEPTH`, level by level so that no depth hurts."""
    level = [values]
    for _ in range(DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
