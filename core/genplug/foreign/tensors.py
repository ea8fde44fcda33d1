"""From stored tensors to tensors: checked against their bytes, and in single precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genplug.errors import WeightsError
from genplug.foreign.values import StoredTensor, shown

LONGEST_NAME = 256
MOST_REUSE, ALWAYS_ALLOWED = 4, 64 << 20
#: Elements as numpy reads them from bytes: `bool` and `bfloat16` by their bits.
_NUMPY = {"bool": "<u1", "bfloat16": "<i2"} | {
    name: np.dtype(name).newbyteorder("<").str
    for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")
}
_HALF = (torch.float16, torch.bfloat16)


def is_tensor(value: Any) -> bool:
    """Tell whether a value of a foreign file is a tensor."""
    return isinstance(value, StoredTensor | Tensor)


def load_tensors(stored: Mapping[str, Any], source: str, file_bytes: int) -> dict[str, Tensor]:
    """Return tensors by name, halves as float32; the others lie in the mapped file if they can.

    Many names may share elements, but not so many that they become far more than the file.
    """
    total = sum(size_in_bytes(value) for value in stored.values())
    if total > MOST_REUSE * file_bytes + ALWAYS_ALLOWED:
        raise WeightsError(f"{source} is refused: its tensors claim {total} bytes, it has {file_bytes}")
    return {name: _upcast(_load(name, value, source)) for name, value in stored.items()}


def size_in_bytes(value: StoredTensor | Tensor) -> int:
    """Return how many bytes a tensor takes when it is contiguous."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return math.prod(value.size) * value.storage.itemsize


def checked_name(name: Any, source: str) -> str:
    """Return a tensor's name if it can be written and shown."""
    if isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_NAME:
        return name
    raise WeightsError(f"{source} is refused: {shown(str(name))} is no name of a tensor")


def _load(name: str, value: StoredTensor | Tensor, source: str) -> Tensor:
    if isinstance(value, Tensor):
        if str(value.dtype).removeprefix("torch.") not in _NUMPY:
            raise WeightsError(f"{source} is refused: tensor {name!r} is of type {value.dtype}")
        return value
    reason = _misfit(value)
    if reason:
        raise WeightsError(f"{source} is damaged or refused: tensor {name!r} {reason}")
    return _view(value)


def _misfit(value: StoredTensor) -> str:
    """Return why a tensor does not fit its storage, or an empty string."""
    storage, numel = value.storage, math.prod(value.size)
    if storage.data is None:
        return "has no elements"
    if numel == 0:
        return "is empty but vast" if math.prod(max(n, 1) for n in value.size) >= 1 << 48 else ""
    last = value.offset + sum((n - 1) * step for n, step in zip(value.size, value.stride, strict=True))
    if last >= storage.numel:
        return f"reaches element {last} of a storage of {storage.numel}"
    if numel > storage.numel:
        return f"expands {storage.numel} elements to {numel}"
    return ""


def _view(value: StoredTensor) -> Tensor:
    """Return the elements as they lie in the file; copied only where they are not aligned, or text there."""
    kind = np.dtype(_NUMPY[value.storage.dtype])
    if math.prod(value.size) == 0:
        elements = np.empty(value.size, kind)
    else:
        steps = zip(value.size, value.stride, strict=True)
        strides = [step * kind.itemsize if n > 1 else 0 for n, step in steps]
        elements = np.ndarray(value.size, kind, value.storage.data, value.offset * kind.itemsize, strides)
    usable = elements.flags.aligned and elements.flags.writeable
    tensor = torch.from_numpy(elements if usable else elements.copy())
    if value.storage.dtype == "bool":
        return tensor != 0
    return tensor.view(torch.bfloat16) if value.storage.dtype == "bfloat16" else tensor


def _upcast(tensor: Tensor) -> Tensor:
    """Return half precision as float32: networks compute with what they are given."""
    return tensor.float() if tensor.dtype in _HALF else tensor
