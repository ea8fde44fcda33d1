"""What a foreign file may say, as inert values: nothing here is looked up, imported or called.

Besides these, a read file holds Python's dict, list, tuple, set, str, int, float, bool and None;
bytes are `memoryview`s of the file itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST_DIMENSIONS = 16


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function in a file."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Holder:
    """An object of a class that is never looked up: the class's name and its instance `__dict__`."""

    name: str
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Storage:
    """Elements in a row; `data` is None until the reader has found their bytes."""

    dtype: str
    itemsize: int
    numel: int
    data: memoryview | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A view of a storage as the file describes it; checked when it becomes a tensor."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Dtype:
    """A numpy type: kind and size (`f4`), and its byte order."""

    code: str
    order: str = "<"


@dataclass(slots=True, eq=False)
class Array:
    """A numpy array: its bytes, empty until its state is set."""

    dtype: Dtype | None = None
    shape: tuple[int, ...] = ()
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    by_columns: bool = False  # Fortran's order


def shown(text: str) -> str:
    """Return a text from a file as it may be printed: short, quoted, without control characters."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def whole_numbers(value: Any) -> bool:
    """Tell whether a value is a short tuple of non-negative integers."""
    return (
        isinstance(value, tuple)
        and len(value) <= MOST_DIMENSIONS
        and all(type(number) is int and number >= 0 for number in value)
    )
