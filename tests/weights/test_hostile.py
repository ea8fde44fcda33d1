"""Hostile files are refused, by name, within bounds of memory and time, and nothing in them is run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genplug.errors import GenplugError
from genplug.foreign import read_foreign

sys.path.insert(0, str(Path(__file__).parent))

import hostile_files

READ_ALL = """
import json, resource, sys, time
from pathlib import Path
import torch
from genplug.errors import GenplugError
from genplug.foreign import read_foreign

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (2 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sorted(Path(sys.argv[1]).glob("*.bin")):
    started = time.process_time()
    try:
        said = f"accepted: {read_foreign(path)}"
    except GenplugError as error:
        said = str(error)
    except BaseException as error:
        said = f"escaped: {type(error).__name__}: {error}"
    print(json.dumps([path.name, said[-1000:], time.process_time() - started]), flush=True)
"""
LONGEST = 60.0  # seconds of processor time; a file of four million opcodes takes about 2


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str, float]]:
    """All cases, read by one process with 2 GiB to spare: name -> expected, said, seconds."""
    folder = tmp_path_factory.mktemp("hostile")
    canary = folder / "canary"
    expected = hostile_files.write(folder, canary)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(folder)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not canary.exists()
    rows = {name: (said, seconds) for name, said, seconds in map(json.loads, done.stdout.splitlines())}
    names = hostile_files.cases(canary)
    return {name: (expected[file], *rows[file]) for name, file in zip(names, expected, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(hostile_files.cases(Path("canary"))))
def test_hostile_file(name: str, outcomes: dict[str, tuple[str, str, float]]) -> None:
    expected, said, seconds = outcomes[name]
    assert expected in said
    assert seconds < LONGEST
    assert said.isprintable()
    assert len(said) < 500


def zipped() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"a": torch.randn(3, 4), "b": torch.ones(2).half()}, "step": 3}, buffer)
    return buffer.getvalue()


GOLDEN = Path(__file__).parent.parent / "golden"
ORIGINALS: dict[str, Callable[[], bytes]] = {
    "zip": zipped,
    "edm": (GOLDEN / "snapshots" / "edm_tiny_snapshot.pkl").read_bytes,
    "edm2": (GOLDEN / "snapshots" / "edm2_tiny_snapshot.pkl").read_bytes,
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_damage_anywhere_is_told_or_harmless(name: str) -> None:
    """Bytes changed, inserted, cut out, or the end missing: weights or one error, never another."""
    original = ORIGINALS[name]()
    places = st.integers(0, len(original) - 1) | st.integers(0, 3000)
    changes = st.lists(st.tuples(places, st.integers(0, 3), st.binary(min_size=1, max_size=9)), max_size=4)

    @settings(max_examples=150, deadline=None)
    @given(changes, st.none() | places)
    def damaged(edits: list[tuple[int, int, bytes]], end: int | None) -> None:
        content = bytearray(original[:end])
        for place, cut, new in edits:
            content[place : place + cut] = new
        assert_told(bytes(content))

    damaged()


def assert_told(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.pkl")
        path.write_bytes(content)
        try:
            read_foreign(path)
        except GenplugError as error:
            told = str(error)
        else:
            told = ""
        assert "\n" not in told
