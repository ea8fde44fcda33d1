"""A real web server on this machine, and a preset of a tiny published network that it serves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

TINY = {
    "resolution": 8,
    "channels": 4,
    "num_classes": 5,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
    "channels_per_head": 16,
    "logvar_channels": 16,
}


@dataclass
class Site:
    """What the server has and how it behaves; `asked` are the requests with their headers."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tag: str | None = '"one"'
    ranges: bool = True
    careless: bool = False  # ignores If-Range
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers are cut
    statuses: list[int] = field(default_factory=list)  # of the next answers, instead of the file
    redirects: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0  # seconds before the second half
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def header(self, name: str) -> list[str | None]:
        """Return one header of every request."""
        return [headers.get(name) for _, headers in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked.append((self.path, dict(self.headers)))
        if self.path in site.redirects:
            return self._answer(302, b"", {"Location": site.redirects[self.path]})
        if site.statuses:
            return self._answer(site.statuses.pop(0), b"refused", {})
        if self.path not in site.files:
            return self._answer(404, b"no", {})
        return self._file(site.files[self.path])

    def _file(self, content: bytes) -> None:
        first, headers = 0, {"ETag": self.site.tag} if self.site.tag else {}
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") == self.site.tag
        if wanted and self.site.ranges and (same or self.site.careless):
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._answer(206 if first else 200, content[first:], headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.send_header("Content-Disposition", 'attachment; filename="../../evil"')
        self.end_headers()
        cut = self.site.cuts.pop(0) if status in (200, 206) and self.site.cuts else None
        half = len(body) // 2
        self.wfile.write(body[: half if cut is None else min(cut, half)])
        time.sleep(self.site.pause)
        if cut is None:
            self.wfile.write(body[half:])
        else:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve files at `site.url`, with the network allowed."""
    for name in ("GENPLUG_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    yield from serve()


@pytest.fixture
def other_site() -> Iterator[Site]:
    """Serve on another port: another host, as tokens go."""
    yield from serve()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that left."""


def serve() -> Iterator[Site]:
    """Run a server until the test ends."""
    site = Site()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def snapshot(golden: Path) -> bytes:
    """A tiny network as NVIDIA's training scripts write it."""
    return (golden / "snapshots" / "edm2_tiny_snapshot.pkl").read_bytes()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory for a user's registry."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def entry() -> Callable[..., str]:
    """Return a function that writes the registry entry of the tiny network at an address."""

    def write(address: str, name: str = "edm2.tiny", extra: str = "", **values: Any) -> str:
        body = "\n".join(f"{key} = {json.dumps(value)}" for key, value in {**TINY, **values}.items())
        head = f'[preset."{name}"]\naddress = "{address}"\nformat = "nvlabs-pickle"'
        head += f'\nlicence = "CC BY-NC-SA 4.0"\n{extra}\n[preset."{name}".values]'
        return f'{head}\nsampler = {{ name = "heun", steps = 2 }}\n{body}\n'

    return write
