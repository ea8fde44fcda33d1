"""Zip files as torch writes them: stored records below one folder, found without unpacking.

An own reader of the directory rather than `zipfile`: a record must be a range of the mapped file
(torch compresses nothing, so there is nothing to expand), and a directory is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from genplug.foreign.machine import Reading
from genplug.foreign.values import shown

MAGIC = b"PK\x03\x04"
MOST_RECORDS = 200_000
_END, _END64, _LOCATOR64, _ENTRY = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
_END_SIZE, _COMMENT = 22, 0xFFFF
_ENTRY_LAYOUT, _LOCAL_LAYOUT = "<4s6H3L5H2L", "<4s5H3L2H"
_UNKNOWN = 0xFFFFFFFF
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class _Entry:
    """One record of the directory."""

    name: str
    size: int
    offset: int


def records(data: memoryview, reading: Reading) -> dict[str, memoryview]:
    """Return the records of an archive by their name below its one folder."""
    found: dict[str, memoryview] = {}
    roots = set()
    for entry in _entries(data, reading):
        root, slash, name = entry.name.partition("/")
        roots.add(root)
        if not slash or not name or _is_path_trick(entry.name) or len(roots) > 1:
            raise reading.refused(f"its record {shown(entry.name)} is not below one folder")
        if name in found:
            raise reading.refused(f"its record {shown(entry.name)} is there twice")
        found[name] = _content(data, entry, reading)
    return found


def _is_path_trick(name: str) -> bool:
    parts = name.split("/")
    return name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0]


def _entries(data: memoryview, reading: Reading) -> Iterator[_Entry]:
    """Yield the directory's records."""
    count, size, start = _directory(data, reading)
    if count > MOST_RECORDS:
        raise reading.refused(f"its archive has {count} records")
    if start + size > len(data):
        raise reading.damaged("the archive's directory lies outside")
    position, end = start, start + size
    for _ in range(count):
        head = _unpack(_ENTRY_LAYOUT, data, position, end, reading)
        signature, flags, method, packed, plain = head[0], head[3], head[4], head[8], head[9]
        name_size, extra_size, comment_size, offset = head[10], head[11], head[12], head[16]
        place = position + struct.calcsize(_ENTRY_LAYOUT)
        if signature != _ENTRY or place + name_size + extra_size > end:
            raise reading.damaged("the archive's directory is broken")
        name = _name(data[place : place + name_size], reading)
        extra = data[place + name_size : place + name_size + extra_size]
        plain, packed, offset = _long_fields(extra, (plain, packed, offset), reading)
        if method != 0 or packed != plain or flags & _ENCRYPTED:
            raise reading.refused(f"its record {shown(name)} is compressed, which torch never does")
        yield _Entry(name, plain, offset)
        position = place + name_size + extra_size + comment_size


def _directory(data: memoryview, reading: Reading) -> tuple[int, int, int]:
    """Return number of records, size and place of the directory."""
    tail_start = max(0, len(data) - _END_SIZE - _COMMENT)
    at = bytes(data[tail_start:]).rfind(_END)
    if at < 0:
        raise reading.damaged("the archive has no directory; it is perhaps not whole")
    place = tail_start + at
    fields = _unpack("<4s4H2LH", data, place, len(data), reading)
    locator = place - 20
    if locator < 0 or data[locator : locator + 4] != _LOCATOR64:
        return fields[4], fields[5], fields[6]
    place = _unpack("<4sLQL", data, locator, len(data), reading)[2]
    fields = _unpack("<4sQ2H2L4Q", data, place, len(data), reading)
    if fields[0] != _END64:
        raise reading.damaged("the archive's directory is broken")
    return fields[7], fields[8], fields[9]


def _long_fields(extra: memoryview, short: tuple[int, int, int], reading: Reading) -> tuple[int, int, int]:
    """Replace sizes and offset that do not fit 32 bits by those of the zip64 field."""
    long, position = memoryview(b""), 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            long = extra[position + 4 : position + 4 + size]
        position += 4 + size
    values, used = [], 0
    for value in short:
        if value == _UNKNOWN:
            value = _unpack("<Q", long, used, len(long), reading)[0]
            used += 8
        values.append(value)
    return values[0], values[1], values[2]


def _content(data: memoryview, entry: _Entry, reading: Reading) -> memoryview:
    """Return a record's bytes, behind its local header."""
    head = _unpack(_LOCAL_LAYOUT, data, entry.offset, len(data), reading)
    start = entry.offset + struct.calcsize(_LOCAL_LAYOUT)
    name = data[start : start + head[9]]
    start += head[9] + head[10]
    if head[0] != MAGIC or name != entry.name.encode() or start + entry.size > len(data):
        raise reading.damaged(f"record {shown(entry.name)} is not where the directory says")
    return data[start : start + entry.size]


def _name(data: memoryview, reading: Reading) -> str:
    reading.spend_text(len(data))
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise reading.damaged("a record's name is no text") from None


def _unpack(layout: str, data: memoryview, position: int, end: int, reading: Reading) -> tuple[Any, ...]:
    if position + struct.calcsize(layout) > end:
        raise reading.damaged("the archive's directory points outside")
    return struct.unpack_from(layout, data, position)
