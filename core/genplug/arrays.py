"""Array files from anywhere: `.npy` and `.npz` headers are checked before anything is allocated.

Arrays of Python objects are pickles, which run code when read: they are refused, never read.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from genplug import labels as label_sources
from genplug.archives import DAMAGE, Archive
from genplug.errors import DataError
from genplug.registry import one_line
from genplug.samplesets import ArraySet, SampleSet

INFLATED_BYTES = 2**32  # of a compressed array, which is read whole
_HEADER_BYTES = 2**14
_PIECE = 2**20
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class Header:
    """What a `.npy` header says."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def size(self) -> int:
        """Return the bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path) -> SampleSet:
    """Open an array file, memory-mapped: images NHWC or NCHW, or points ND."""
    with _readable(path, "array file"):
        with path.open("rb") as file:
            header = _header(file.read(_HEADER_BYTES))
        array = _mapped(path, header, 0)
        return ArraySet(_channels_first(array), name=str(path))


def read_npz(path: Path) -> SampleSet:
    """Open an archive in ADM's layout: `arr_0` images NHWC (or points), `arr_1` labels if any."""
    with _readable(path, "npz archive"):
        archive = Archive(path)
        try:
            arrays = sorted(name.removesuffix(".npy") for name in archive.names if name.endswith(".npy"))
            key = "arr_0" if "arr_0" in arrays or len(arrays) != 1 else arrays[0]
            if key not in arrays:
                raise DataError(f"it holds {', '.join(arrays[:5]) or 'no arrays'}; samples belong in arr_0")
            samples = _channels_first(_member(archive, f"{key}.npy"))
            labels = (
                label_sources.from_array(_member(archive, "arr_1.npy"))
                if "arr_1" in arrays and key != "arr_1"
                else None
            )
        finally:
            archive.close()
        return ArraySet(samples, labels, name=str(path))


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an `.npz`."""
    with _readable(path, "npz archive"):
        archive = Archive(path)
        archive.close()
        return [name.removesuffix(".npy") for name in archive.names if name.endswith(".npy")]


def read_numbers(path: Path, names: Collection[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Return those of the named arrays of an `.npz` that are there."""
    with _readable(path, "npz archive"):
        archive = Archive(path)
        try:
            there = [name for name in names if f"{name}.npy" in archive.names]
            return {name: _member(archive, f"{name}.npy") for name in there}
        finally:
            archive.close()


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Name the file in whatever is wrong with it."""
    try:
        yield
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except (MemoryError, *DAMAGE) as error:
        raise DataError(f"{path} is not a readable {kind} ({one_line(error)[:80]})") from None


def _header(head: bytes) -> Header:
    """Read a header from the first bytes of an array file."""
    file = io.BytesIO(head)
    version = npy.read_magic(file)
    if version not in _READERS:
        raise ValueError(f"version {version} of the format is for other arrays")
    try:
        shape, fortran, dtype = _READERS[version](file)
    except Exception as error:  # numpy evaluates a literal that may be anything
        raise ValueError(f"damaged header: {one_line(error)}") from None
    if dtype.hasobject:
        raise DataError("it holds Python objects, a pickle, which is never read; save numbers")
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise DataError(f"it holds {dtype}, not numbers of up to 64 bits")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"damaged header: shape {shape!r}"[:80])
    return Header(shape, fortran, dtype, file.tell())


def _mapped(path: Path, header: Header, offset: int) -> np.ndarray[Any, Any]:
    """Map an array, so that it is read only where it is used."""
    start = offset + header.start
    if start + header.size > path.stat().st_size:
        raise ValueError(f"truncated: the header says {header.size:,} bytes of shape {header.shape}")
    if header.size == 0:
        return np.empty(header.shape, header.dtype)
    order = "F" if header.fortran else "C"
    return np.memmap(path, header.dtype, "c", start, header.shape, order)  # type: ignore[call-overload,no-any-return]


def _member(archive: Archive, name: str) -> np.ndarray[Any, Any]:
    """Return an array of an archive: mapped if it is stored, read whole if it is compressed."""
    with archive.open(name) as file:
        header = _header(file.read(_HEADER_BYTES))
    if header.start + header.size != archive.size(name):
        raise ValueError(f"{name} does not have the size its header says, shape {header.shape}")
    offset = archive.offset(name)
    if offset is not None:
        return _mapped(archive.path, header, offset)
    if header.size > INFLATED_BYTES:
        raise DataError(
            f"{name} unpacks to {header.size:,} bytes; arrays of more than {INFLATED_BYTES:,} must be "
            "stored uncompressed (numpy.savez)"
        )
    with archive.open(name) as file:
        file.read(header.start)
        return _inflated(file, header)


def _inflated(file: IO[bytes], header: Header) -> np.ndarray[Any, Any]:
    """Read a compressed array piece by piece; memory is used as the content really comes."""
    array = np.empty(header.shape, header.dtype, "F" if header.fortran else "C")
    target = array.reshape(-1, order="A").view(np.uint8)
    done = 0
    while piece := file.read(_PIECE):
        target[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    if done != header.size:
        raise EOFError(f"truncated: {done:,} of {header.size:,} bytes")
    return array


def _channels_first(array: np.ndarray[Any, Any]) -> Tensor:
    """Return images as uint8 NCHW and points as float32 ND."""
    if array.ndim == 2:
        with np.errstate(over="ignore"):  # what becomes infinite is refused later
            return torch.from_numpy(np.asarray(array, dtype=np.float32))
    if array.ndim == 4 and array.dtype == np.uint8:
        return torch.from_numpy(array.transpose(0, 3, 1, 2) if array.shape[3] in (1, 3) else array)
    raise DataError(
        f"{array.dtype} array of shape {array.shape} is neither uint8 images (N, H, W, 1 or 3) "
        "nor points (N, D)"
    )
