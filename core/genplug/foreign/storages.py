"""Torch's streams before it wrote zip files: five pickles and the raw elements.

The pickles are a magic number, a protocol number, the machine's byte order, the object, and the
keys of its storages; then for each key 8 bytes of element count and the elements. The same stream
with a single storage stands inside NVlabs pickles, as the argument of `_load_from_bytes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from genplug.foreign.machine import Machine, Reading
from genplug.foreign.values import Global, Storage, shown
from genplug.foreign.vocabulary import STORAGES, VOCABULARY

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def described(reading: Reading, reference: Any) -> tuple[Storage, str]:
    """Return the storage that a persistent id describes, without its bytes, and its key."""
    match reference:
        case ("storage", Global() as kind, str(key), str(), int(numel), *rest) if rest in ([], [None]):
            if str(kind) in STORAGES and numel >= 0:
                return Storage(*STORAGES[str(kind)], numel), key
    raise reading.refused("it refers to something outside itself that is no storage of a known type")


def load_from_bytes(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    """Return the storage in a stream of its own; the stream's objects are data without streams."""
    match arguments:
        case (memoryview() as data,):
            machine = Machine(data, reading, VOCABULARY)
            if machine.run() != MAGIC:
                raise reading.refused("bytes inside it are no stream of torch")
            found = read_stream(machine)
            return found if isinstance(found, Storage) else NotImplemented
    return NotImplemented


def read_stream(machine: Machine) -> Any:
    """Read what follows the magic number; return its object with the bytes of all storages found."""
    reading, storages = machine.reading, dict[str, Storage]()
    _check_head(reading, machine.run(), machine.run())

    def refer(reference: Any) -> Storage:
        storage, key = described(reading, reference)
        known = storages.setdefault(key, storage)
        if (known.dtype, known.numel) != (storage.dtype, storage.numel):
            raise reading.damaged(f"two descriptions of storage {shown(key)}")
        return known

    machine.persistent = refer
    found = machine.run()
    machine.persistent = None
    _find_elements(machine, storages, machine.run())
    return found


def _check_head(reading: Reading, protocol: Any, system: Any) -> None:
    if type(protocol) is not int or protocol != PROTOCOL:
        raise reading.damaged("an unknown version of torch's stream")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise reading.refused("its numbers are big-endian")


def _find_elements(machine: Machine, storages: Mapping[str, Storage], keys: Any) -> None:
    """Point each storage at its elements, which follow in the order of the keys."""
    if type(keys) is not list or any(type(key) is not str for key in keys) or set(keys) != set(storages):
        raise machine.damaged("the list of storages is not that of the object, before")
    for key in keys:
        storage = storages[key]
        if machine.number("<Q") != storage.numel:
            raise machine.damaged(f"storage {shown(key)} has another number of elements before")
        storage.data = machine.take(storage.numel * storage.itemsize)


#: What a whole file may say: the vocabulary and storages in streams of their own.
FILE_VOCABULARY = dataclasses.replace(
    VOCABULARY, builders={**VOCABULARY.builders, "torch.storage._load_from_bytes": load_from_bytes}
)
