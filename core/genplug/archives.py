"""Zip archives from anywhere: names are looked up and never written, and every read is bounded."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from genplug.errors import DataError
from genplug.registry import one_line

DIRECTORY_BYTES = 2**27  # the list of files; 1.3 million images need 111 MB
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, OverflowError, OSError)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # not the odd spaces that Macs put into names
_OUTSIDE = re.compile(r"^/|\\|^[A-Za-z]:|(^|/)\.\.(/|$)")


class Archive:
    """A zip whose members can be read one by one."""

    def __init__(self, path: Path) -> None:
        self.path, self.names = path, list[str]()
        with ExitStack() as stack, _readable(path):
            file = stack.enter_context(_Bounded(io.FileIO(path)))
            self._zip = stack.enter_context(zipfile.ZipFile(file))
            self._check_names()
            self._opened = stack.pop_all()  # what is refused is closed here, the rest by `close`

    def read(self, name: str, limit: int) -> bytes:
        """Return a member's content, at most `limit` bytes."""
        size = self.size(name)
        if size > limit:
            raise DataError(f"unpacks to {size:,} bytes, more than {limit:,}")
        try:
            with self.open(name) as file:
                content = file.read(size + 1)
        except DAMAGE as error:
            raise DataError(f"damaged: {one_line(error)[:80]}") from None
        if len(content) != size:
            raise DataError(f"truncated: {len(content):,} of {size:,} bytes")
        return content

    def open(self, name: str) -> IO[bytes]:
        """Open a member for reading."""
        info = self._zip.getinfo(name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError("packed by a method other than deflate, whose memory is not bounded")
        return self._zip.open(info)

    def size(self, name: str) -> int:
        """Return how many bytes a member says it unpacks to."""
        return self._zip.getinfo(name).file_size

    def offset(self, name: str) -> int | None:
        """Return where in the file the content of a member begins; None if it is compressed."""
        info = self._zip.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            name_bytes, extra_bytes = struct.unpack("<26x2H", file.read(30))
        return info.header_offset + 30 + int(name_bytes) + int(extra_bytes)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def _check_names(self) -> None:
        """Refuse an archive with members that no honest one has."""
        seen: set[str] = set()
        for info in self._zip.infolist():
            if problem := _problem(info, seen):
                raise DataError(f"{self.path}: member {info.orig_filename[:80]!r} {problem}; pack it again")
            seen.add(info.filename)
        self.names = [name for name in seen if not name.endswith("/")]


class _Bounded(io.BufferedReader):
    """A file that is never read in one piece beyond a bound: `zipfile` reads the list of files so."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its list of files is longer than {DIRECTORY_BYTES:,} bytes")
        return super().read(wanted)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGE, NotImplementedError) as error:
        raise DataError(f"{path} is not a readable zip ({str(error)[:80]})") from None


def _problem(info: zipfile.ZipInfo, seen: set[str]) -> str:
    """Return what is wrong with a member, as the end of a sentence; nothing if all is well."""
    name = info.orig_filename
    if _OUTSIDE.search(name):
        return "leads out of the archive"
    if _CONTROL.search(name):
        return "has a name with control characters"
    if name in seen:
        return "is there twice"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    return "is encrypted" if info.flag_bits & 0x41 else ""
