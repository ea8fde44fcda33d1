"""Whole runs in processes of their own, small enough to be repeated many times."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {
    "objective.select_evaluator": "fake-gap",
    "objective.select": "gap",
    "objective.select_extractor": "fake-mean",
    "objective.select_samples": 30,
    "objective.select_blocks": 2,
    "objective.pool": 60,
    "objective.checkpoints": 2,
    "objective.train.steps": 20,
    "objective.train.batch_size": 32,
    "objective.train.lr": 0.01,
    "objective.train.checkpoint_seconds": 0,
    "run.samples": 60,
    "run.blocks": 2,
    "run.batch_size": 10,
}
WORDS = ["run", "-g", "fake-points", "-o", "ddo", "--dataset", "fake-rings", "--quiet"]
WORDS += ["--extractor", "fake-mean", "--evaluator", "fake-gap"]
PATIENCE = 300  # seconds; a loaded machine is several times slower


def command(out: Path, *words: str, **changes: Any) -> list[str]:
    """Return the arguments of a small DDO run; `run__samples=7` changes a setting."""
    settings = SETTINGS | {key.replace("__", "."): value for key, value in changes.items()}
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return [*WORDS, *sets, "--out", str(out), *words]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start genplug as the leader of a group of processes, as a shell does."""
    words = [sys.executable, "-m", "genplug", *arguments]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(out: Path, *words: str, **changes: Any) -> dict[str, Any]:
    """Run to the end; return the scores."""
    process = start(command(out, *words, **changes))
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    return scores(out)


def scores(out: Path) -> dict[str, Any]:
    """Return what `metrics.json` says."""
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def await_(seen: Callable[[], bool], alive: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until something is seen, or the process has ended; return whether it was seen."""
    deadline = time.monotonic() + seconds
    while not (found := seen()) and alive():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.001)
    return found


def members(root: int) -> dict[int, int]:
    """Return a process and its descendants: number of the process -> its rank (-1: none)."""
    parents, ranks = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            entries = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):  # gone meanwhile
            continue
        if state != "Z":
            parents[int(folder.name)] = int(parent)
            ranks[int(folder.name)] = next((int(e[5:]) for e in entries if e.startswith(b"RANK=")), -1)
    found = {root} & set(parents)
    while more := {number for number, parent in parents.items() if parent in found} - found:
        found |= more
    return {number: ranks[number] for number in found}


def end(process: subprocess.Popen[str]) -> None:
    """Leave nothing behind, whatever a test did."""
    for number in members(process.pid):
        os.kill(number, signal.SIGKILL)
    process.wait()
