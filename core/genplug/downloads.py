"""Downloading one file: resumable, digested while it streams, never spliced from two versions.

The standard library does it for every kind of address. `huggingface_hub` would serve one kind,
bring a second cache with other names, other errors and no digest of plain files; what it adds for a
single public file is the resolve address and the token, which are one line each here.

A redirect is followed only to http or https, never from https to http; a token is sent to no other
host than the one it belongs to. What a server calls the file is ignored.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from genplug.errors import WeightsError
from genplug.log import Log

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each new attempt that follows one without progress
_BUSY = (408, 429, 500, 502, 503, 504)


class NoNetworkError(WeightsError):
    """The server cannot be reached at all."""


@dataclass(frozen=True)
class Source:
    """What to download: `headers` go to the host of `url` alone, `help` is said when it refuses."""

    url: str
    headers: Mapping[str, str]
    help: str = ""


@dataclass(frozen=True)
class Downloaded:
    """A whole file on disk."""

    path: Path
    sha256: str
    bytes: int


def download(source: Source, target: Path, log: Log) -> Downloaded:
    """Download to `target`, continuing the `.part` of an earlier attempt if the file is still the same.

    Dropped connections are tried again; a refusal is a `WeightsError` in one line. What has
    arrived stays in the `.part` whatever happens.
    """
    part, failures = _Part(target), 0
    while True:
        before = part.size
        try:
            found = _attempt(source, part, log)
            os.replace(part.path, target)
            part.validator_path.unlink(missing_ok=True)
            return Downloaded(target, *found)
        except (ConnectionError, TimeoutError, HTTPException, URLError) as error:
            _refuse(source, error)
            failures = 0 if part.size > before else failures + 1
            if failures > len(PAUSES):
                raise NoNetworkError(f"{source.url}: {_reason(error)}") from None
            log.info(f"connection lost ({_reason(error)}); continuing at {part.size:,} bytes")
            time.sleep(PAUSES[max(failures - 1, 0)])


class _Part:
    """The unfinished file and, beside it, which version of which address it is the beginning of."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.validator_path = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str | None:
        """Return the version that the beginning belongs to, if it is of this address."""
        try:
            known = json.loads(self.validator_path.read_text(encoding="utf-8"))
            return str(known["validator"]) if known["url"] == url and self.size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, url: str, validator: str | None) -> None:
        """Start an empty file, of a version that can be recognised again if it has a validator."""
        self.path.write_bytes(b"")
        self.validator_path.unlink(missing_ok=True)
        if validator is not None:
            self.validator_path.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _attempt(source: Source, part: _Part, log: Log) -> tuple[str, int]:
    """Transfer what is missing over one connection; return sha256 and size of the whole."""
    validator = part.validator(source.url)
    wanted = {"Range": f"bytes={part.size}-", "If-Range": validator} if validator else {}
    try:
        response = _open(source, wanted)
    except HTTPError as error:
        if error.code != 416 or not validator:
            raise
        part.begin(source.url, None)  # the file is shorter now
        response = _open(source, {})
    with response:
        start = _start(response, part, validator)
        if start == 0:
            part.begin(source.url, _validator(response))
        total = _total(response, start)
        hasher = hashlib.sha256()
        with part.path.open("rb") as begun:
            for chunk in iter(lambda: begun.read(CHUNK), b""):
                hasher.update(chunk)
        size = _stream(response, part, start, total, hasher, log)
    if total is not None and size != total:
        raise ConnectionError(f"{size:,} of {total:,} bytes arrived")
    return hasher.hexdigest(), size


def _start(response: Any, part: _Part, validator: str | None) -> int:
    """Return where the answer begins: after what is here, or at 0 if the server sends the whole again."""
    if response.status != 206:
        return 0
    match = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", response.headers.get("Content-Range", ""))
    same = _validator(response) in (validator, None)
    if match is None or int(match[1]) != part.size or not same:
        part.begin("", None)
        raise ConnectionError("the server continued another version of the file")
    return part.size


def _validator(response: Any) -> str | None:
    """Return what tells one version of the file from another: a strong ETag, else the date of change."""
    tag: str | None = response.headers.get("ETag")
    date: str | None = response.headers.get("Last-Modified")
    return tag if tag and not tag.startswith("W/") else date


def _total(response: Any, start: int) -> int | None:
    length = response.headers.get("Content-Length")
    return start + int(length) if length and length.isdecimal() else None


def _stream(response: Any, part: _Part, start: int, total: int | None, hasher: Any, log: Log) -> int:
    """Append the answer to the part; return the size of what is then there."""
    size = start
    megabytes = max(1, round((total or 0) / 1e6))
    with (
        part.path.open("ab", buffering=0) as file,
        log.progress(f"download {part.path.stem}", megabytes, "MB", round(start / 1e6)) as advance,
    ):
        while size != total and (chunk := _read(response)):
            _write(file, chunk, part.path)
            hasher.update(chunk)
            moved = round((size + len(chunk)) / 1e6) - round(size / 1e6)
            size += len(chunk)
            if moved:
                advance(moved)
    return size


def _read(response: Any) -> bytes:
    """Return what has arrived, which a killed process then keeps; a connection ends by one kind of error."""
    try:
        chunk: bytes = response.read1(CHUNK)
        return chunk
    except (OSError, HTTPException) as error:
        raise ConnectionError(_reason(error)) from None


def _write(file: IO[bytes], chunk: bytes, path: Path) -> None:
    """Write all of a chunk; an error names the file."""
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _open(source: Source, headers: Mapping[str, str]) -> Any:
    """Open a connection; the answer is readable and has `status` and `headers`."""
    names = {"User-Agent": "genplug", "Accept-Encoding": "identity", **source.headers, **headers}
    opener = urllib.request.build_opener(_Redirects)
    return opener.open(urllib.request.Request(source.url, headers=names), timeout=TIMEOUT)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects without leaving encryption or giving a token away."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request to the new place."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            raise WeightsError(f"{req.full_url} redirects to {newurl}, which is not encrypted: refused")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            request.remove_header("Authorization")
        return request


def _refuse(source: Source, error: Exception) -> None:
    """Raise what no further attempt would mend; return for the rest."""
    if isinstance(error, HTTPError):
        if error.code in (401, 403):
            raise WeightsError(f"{source.url}: access refused ({error.code}){source.help}") from None
        if error.code not in _BUSY:
            raise WeightsError(f"{source.url}: {error.code} {error.reason}") from None
        return
    reason = getattr(error, "reason", error)
    if isinstance(reason, FileNotFoundError) or (
        isinstance(reason, OSError) and reason.errno == errno.ENOENT and source.url.startswith("file:")
    ):
        raise WeightsError(f"{source.url}: no such file") from None
    if source.url.startswith("file:") or isinstance(reason, socket.gaierror):
        raise NoNetworkError(f"{source.url}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return why a connection failed, in a few words."""
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)
