"""A `genplug` to call, with toy plugins installed by hand-made dist-info folders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from genplug.registry import catalog

TOYS = Path(__file__).parent / "toys"
DEFAULTS = """
[run]
dataset = "toy-data"
extractors = ["toy-mean"]
evaluators = ["toy-gap"]
samples = 6
blocks = 2
batch_size = 4
"""


@dataclass(frozen=True)
class Outcome:
    """What a command line left."""

    code: int
    out: str
    err: str


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install modules of `toys` as packages `genplug-mock...` 1.0; returns the folder they are in."""
    site = tmp_path / "site"
    site.mkdir()

    def install(*modules: str) -> Path:
        for module in modules:
            name = module.replace("_", "-")
            info = site / f"{module}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[genplug]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(site)
        catalog.cache_clear()
        return site

    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(TOYS), *filter(None, sys.path)]))
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    install("genplug_mock")
    yield install
    catalog.cache_clear()


@pytest.fixture
def here(tmp_path: Path, installed: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose registry makes the toys the defaults."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "registry.toml").write_text(DEFAULTS)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def genplug(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Call the command line in this process."""
    from genplug_cli.main import execute

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def python(here: Path) -> Callable[..., Outcome]:
    """Run Python code in a process of its own."""

    def call(code: str) -> Outcome:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call
