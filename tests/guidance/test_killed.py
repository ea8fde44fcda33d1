"""Killed in the training of each second model, a run continues to the scores of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import genplug

TRAIN = {"steps": 120, "batch_size": 32, "checkpoint_seconds": 0}
SETTINGS: dict[str, Any] = {
    "generator.preset": "none",
    "generator.num_classes": 2,
    "generator.width": 16,
    "generator.sampler.steps": 4,
    "dataset.classes": "both",
    "dataset.train": 200,
    "dataset.held_out": 200,
    "run.samples": 40,
    "run.blocks": 1,
    "run.extractors": ["pixels"],
    "run.evaluators": ["frechet"],
    **{f"objective.{number}.train.{key}": value for number in (1, 2) for key, value in TRAIN.items()},
}
OBJECTIVES = ["cfg", "autoguidance"]


def test_killed_in_both_trainings_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    for training in ("label-dropped", "guide"):
        kill_at(tmp_path / "x", f"stages/shared/{training}-*/fit.partial/state.pt")
    assert finished(tmp_path / "x") == finished(tmp_path / "y")


def kill_at(out: Path, moment: str) -> None:
    """Start the run in a process of its own and kill it as soon as a file is there."""
    words = [sys.executable, "-m", "genplug", "run", "-g", "toy", "--dataset", "fractal", "--quiet"]
    words += [word for name in OBJECTIVES for word in ("-o", name)]
    words += [word for k, v in SETTINGS.items() for word in ("--set", f"{k}={json.dumps(v)}")]
    process = subprocess.Popen([*words, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob(moment)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error
    assert list(out.glob(moment))


def finished(out: Path) -> Any:
    sets = list(SETTINGS.items())
    resolved = genplug.resolve(generator="toy", objectives=OBJECTIVES, dataset="fractal", sets=sets)
    return genplug.run(resolved=resolved, out=out).metrics["improved"]
