"""From a path to inert values: which of the formats a file has, and what it says.

One reader serves `.pt`, `.pth`, `.ckpt` (zip or stream) and NVlabs pickles. `torch.load` with
`weights_only=True` runs nothing foreign either, but makes whatever size a file claims (`bytearray(2**30)`
from 244 bytes), does not read NVlabs pickles or protocol 4, and reads all parts where one is wanted.
Here a tensor is a range of the mapped file until it is chosen and checked.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from genplug.errors import WeightsError
from genplug.foreign import archive
from genplug.foreign.machine import MOST_TEXT, Machine, Reading
from genplug.foreign.opcodes import OPERATIONS
from genplug.foreign.storages import FILE_VOCABULARY, MAGIC, described, read_stream
from genplug.foreign.values import Storage, shown

SAFETENSORS, TORCH, NVLABS = "safetensors", "torch", "nvlabs-pickle"
LONGEST_HEADER = 100 << 20


def map_file(path: Path) -> memoryview:
    """Return a file's bytes as they lie on disk; writing to them does not reach the file."""
    try:
        if not os.path.exists(path):
            raise WeightsError(f"no weights at {path}")
        if not path.is_file():
            raise WeightsError(f"{path} is no file")
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise WeightsError(f"{path} is empty; get it again")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error})") from None


def read_values(path: Path) -> tuple[str, Any, memoryview]:
    """Return a file's format, its content as inert values, and its bytes.

    Tensors of a safetensors file come as tensors, all others as `StoredTensor`.
    """
    data = map_file(path)
    # Protocol 2 writes bytes as text, which is read and then copied: still no more than the file has.
    reading = Reading(str(path), text=max(MOST_TEXT, 2 * len(data)))
    if data[:4] == archive.MAGIC:
        return TORCH, _read_archive(data, reading), data
    if _has_safetensors_header(data):
        return SAFETENSORS, _read_safetensors(path), data
    if data[0] not in OPERATIONS:
        raise WeightsError(f"{path} is no safetensors, torch or pickle file")
    machine = Machine(data, reading, FILE_VOCABULARY)
    first = machine.run()
    if type(first) is int and first == MAGIC:
        return TORCH, read_stream(machine), data
    return NVLABS, first, data


def _has_safetensors_header(data: memoryview) -> bool:
    return len(data) > 8 and data[8] == ord("{") and struct.unpack("<Q", data[:8])[0] <= LONGEST_HEADER


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, KeyError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error})") from None


def _read_archive(data: memoryview, reading: Reading) -> Any:
    """Read `data.pkl` of a torch archive; its persistent ids name the records with the elements."""
    records = archive.records(data, reading)
    if "constants.pkl" in records:
        raise reading.refused("it is a TorchScript archive, which holds code")
    if "data.pkl" not in records:
        raise reading.damaged("the archive has no data.pkl")
    if bytes(records.get("byteorder", memoryview(b"little"))[:16]) != b"little":
        raise reading.refused("its numbers are big-endian")
    return Machine(records["data.pkl"], reading, FILE_VOCABULARY, _Elements(records, reading)).run()


class _Elements:
    """Finds the storages of an archive."""

    def __init__(self, records: Mapping[str, memoryview], reading: Reading) -> None:
        self.records, self.reading = records, reading

    def __call__(self, reference: Any) -> Storage:
        storage, key = described(self.reading, reference)
        record = self.records.get(f"data/{key}")
        if record is None:
            raise self.reading.damaged(f"the archive has no storage {shown(key)}")
        if storage.numel * storage.itemsize > len(record):
            raise self.reading.damaged(f"storage {shown(key)} claims more elements than it has")
        storage.data = record
        return storage
