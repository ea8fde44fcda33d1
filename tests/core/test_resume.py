"""A killed run continues: the same command ends with the numbers of an uninterrupted run.

The process is killed for real (SIGKILL) in training, in sampling and in evaluation: as soon as
the piece of work in question shows in the run directory.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMAND = [
    sys.executable,
    "-m",
    "genplug",
    "run",
    "-g",
    "fake-points",
    "-o",
    "ddo",
    "--dataset",
    "fake-rings",
    "--quiet",
]
COMMAND += ["--extractor", "fake-mean", "--evaluator", "fake-gap"]
SETS = {
    "objective.select_evaluator": "fake-gap",
    "objective.select": "gap",
    "objective.select_extractor": "fake-mean",
    "objective.train.steps": 40,
    "objective.train.batch_size": 32,
    "objective.train.lr": 0.01,
    "objective.train.checkpoint_seconds": 0,
    "objective.rounds": 2,
    "run.samples": 300,
    "run.batch_size": 20,
}


def start(out: Path) -> subprocess.Popen[str]:
    sets = [word for key, value in SETS.items() for word in ("--set", f"{key}={value}")]
    return subprocess.Popen([*COMMAND, *sets, "--out", str(out)], stderr=subprocess.PIPE, text=True)


def finish(out: Path) -> dict[str, Any]:
    process = start(out)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def kill_when(out: Path, seen: Callable[[], bool]) -> bool:
    """Start the run, kill it once `seen`; return whether it was still running then."""
    process = start(out)
    deadline = time.monotonic() + 200
    while process.poll() is None and not seen():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    alive = process.poll() is None
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    return alive


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return finish(tmp_path_factory.mktemp("whole") / "x")


MOMENTS = {
    "training": "stages/1-ddo/round-1/fit-1.partial/state.pt",
    "sampling": "samples/improved/block-0*/batch-000002.npz",
    "evaluation": "stages/scores/base/*",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_sigkill_in(moment: str, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    out = tmp_path / "x"
    assert kill_when(out, lambda: any(out.glob(MOMENTS[moment])))
    assert not (out / "metrics.json").exists()
    assert finish(out) == uninterrupted


@pytest.mark.slow
def test_sigkill_again_and_again_at_random_moments(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    """Each attempt starts where the last one stopped, until one gets through."""
    out, luck = tmp_path / "x", random.Random(0)
    for _ in range(4):
        kill_when(out, Working(out / "events.jsonl", luck.uniform(0.05, 1.5)))
    assert finish(out) == uninterrupted


class Working:
    """Becomes true some seconds after a new process wrote its first event."""

    def __init__(self, events: Path, delay: float) -> None:
        self.events, self.delay = events, delay
        self.lines, self.began = self._count(), 0.0

    def __call__(self) -> bool:
        if not self.began and self._count() > self.lines:
            self.began = time.monotonic()
        return bool(self.began) and time.monotonic() - self.began > self.delay

    def _count(self) -> int:
        return len(self.events.read_text().splitlines()) if self.events.exists() else 0


def test_a_finished_run_repeats_nothing(tmp_path: Path) -> None:
    """The second call restores every stage; nothing in it is newer than the end of the first."""
    import genplug
    from genplug.resolving import resolve

    def once() -> dict[str, Any]:
        resolved = resolve(
            generator="fake-points",
            objectives=["pretrain"],
            dataset="fake-rings",
            extractors=["fake-mean"],
            evaluators=["fake-gap"],
            sets=[("objective.train.steps", 3), ("objective.train.batch_size", 8), ("run.samples", 20)],
        )
        return genplug.run(resolved=resolved, out=tmp_path / "x").metrics

    first = once()
    made = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "x").rglob("*.*")
        if "stages" in path.parts or "samples" in path.parts
    }
    assert once() == first
    assert {path: path.stat().st_mtime_ns for path in made} == made
