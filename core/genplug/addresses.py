"""Where published weights are: the addresses that a registry may hold.

    package:MODULE/FILE              travels in an installed package
    https://..., http://...          a plain download
    file:///...                      a mirror on this machine
    hf:OWNER/REPO[@REVISION]/PATH    a file of a Hugging Face repository (revision `main` if none is named)

Standard library only: registries are read by every command.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

HUB = "https://huggingface.co"
_HUB_FILE = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?/(?P<path>[\w./+-]+)")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")
_WORDS = "package:MODULE/FILE, https://, http://, file:/// or hf:OWNER/REPO[@REVISION]/PATH"


@dataclass(frozen=True)
class Address:
    """One place: `url` is what is opened (empty for a package), `filename` how the file is called here."""

    text: str
    url: str
    filename: str
    repository: str = ""  # on the hub

    @property
    def is_remote(self) -> bool:
        """Whether it takes a network."""
        return self.url.startswith(("http://", "https://"))


def parse(text: str) -> Address:
    """Return an address, or raise a `ValueError` with the known forms."""
    if text.startswith("package:"):
        module, _, name = text.removeprefix("package:").partition("/")
        if not module or not name:
            raise ValueError(f"address {text!r}: expected package:MODULE/FILE")
        return Address(text, "", _filename(name))
    if text.startswith("hf:"):
        return _on_hub(text)
    parts = urlsplit(text)
    rooted = parts.scheme == "file" and not parts.netloc
    if not (rooted or (parts.scheme in ("http", "https") and parts.netloc)) or parts.path.endswith("/"):
        raise ValueError(f"unknown address {text!r} (known: {_WORDS})")
    return Address(text, text, _filename(parts.path))


def _on_hub(text: str) -> Address:
    """Return a file of a Hugging Face repository, at `HF_ENDPOINT` where that is set."""
    match = _HUB_FILE.fullmatch(text)
    if match is None:
        raise ValueError(f"address {text!r}: expected hf:OWNER/REPO[@REVISION]/PATH")
    repo, path, revision = match["repo"], match["path"], match["revision"] or "main"
    url = f"{hub()}/{repo}/resolve/{revision}/{quote(path)}"
    return Address(text, url, _filename(path), repo)


def hub() -> str:
    """Return the hub's address: `HF_ENDPOINT`, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def _filename(path: str) -> str:
    """Return the last part of a path as a file name that is safe anywhere."""
    name = _UNSAFE.sub("_", path.rpartition("/")[2]).lstrip(".")
    if not name:
        raise ValueError(f"the address names no file: {path!r}")
    return name
