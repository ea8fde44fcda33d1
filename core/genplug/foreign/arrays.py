"""Numpy arrays in a foreign file, by their dotted names: reference statistics come so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from genplug.errors import WeightsError
from genplug.foreign.files import read_values
from genplug.foreign.tensors import is_tensor, load_tensors
from genplug.foreign.values import Array, shown

DEEPEST = 4


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays (and tensors) in the dictionaries of a pickle or torch file; nothing in it is run.

    Raises:
        WeightsError: the file is damaged or asks for more than data.
    """
    _, value, data = read_values(path)
    return {name: _as_array(name, item, str(path), len(data)) for name, item in _named(value, "", 0)}


def _named(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and depth < DEEPEST:
        for key, item in value.items():
            yield from _named(item, f"{prefix}.{key}" if prefix else str(key), depth + 1)
    elif isinstance(value, Array) or is_tensor(value):
        yield prefix, value


def _as_array(name: str, value: Any, source: str, file_bytes: int) -> np.ndarray[Any, Any]:
    if not isinstance(value, Array):
        return load_tensors({name: value}, source, file_bytes)[name].numpy()
    kind = None if value.dtype is None else np.dtype(f"{value.dtype.order}{value.dtype.code}")
    if kind is None or len(value.data) != math.prod(value.shape) * kind.itemsize:
        raise WeightsError(f"{source} is damaged: array {shown(name)} does not have the size of its shape")
    return np.frombuffer(value.data, kind).reshape(value.shape, order="F" if value.by_columns else "C")
