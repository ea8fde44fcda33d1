"""Two processes of which one dies, and two that are interrupted: one line, nobody left, and it continues."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import PATIENCE, await_, command, end, finish, members, start

TWO = ("--processes", "2")
SMALL = {"objective__pool": 40, "run__samples": 60, "objective__train__steps": 60}
TRAINING = "stages/1-ddo/round-1/fit-1.partial/state.pt"
SAMPLING = "samples/base/block-0.partial/batch-*.npz"
AGAIN = "the same command continues where it stopped"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "x"


@pytest.fixture
def started(out: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start two processes and wait until a file of the run directory is there."""
    running: list[subprocess.Popen[str]] = []

    def begin(moment: str) -> subprocess.Popen[str]:
        process = start(command(out, *TWO, **SMALL))
        running.append(process)
        assert await_(lambda: any(out.glob(moment)), lambda: process.poll() is None), process.communicate()[1]
        return process

    yield begin
    for process in running:
        end(process)


def worker(process: subprocess.Popen[str], rank: int) -> int:
    return next(number for number, has in members(process.pid).items() if has == rank)


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and what was said; nobody may be left then."""
    group = [*members(process.pid)]
    _, error = process.communicate(timeout=PATIENCE)
    alive = lambda: [number for number in group if Path(f"/proc/{number}").exists()]  # noqa: E731
    assert await_(lambda: not alive(), lambda: True, 30), alive()
    said = [line for line in error.splitlines() if not line.startswith("Warning:")]
    return process.returncode, "\n".join(said)


@pytest.mark.slow
def test_two_processes_that_are_killed_continue_to_the_scores_of_one(
    out: Path, started: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    for rank, moment in ((1, TRAINING), (0, SAMPLING)):
        process = started(moment)
        os.kill(worker(process, rank), signal.SIGKILL)
        assert outcome(process) == (2, f"Error: process {rank} was killed by SIGKILL; {AGAIN}")
    assert_alike(finish(out, *TWO, **SMALL), finish(tmp_path / "one", **SMALL))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "to_all", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)]
)
def test_two_processes_are_interrupted_in_one_line(
    started: Callable[[str], subprocess.Popen[str]], sent: int, to_all: bool, code: int
) -> None:
    """Ctrl-C reaches the group that a terminal runs, SIGTERM the process that was started."""
    process = started(TRAINING)
    (os.killpg if to_all else os.kill)(process.pid, sent)
    assert outcome(process) == (code, f"Interrupted; {AGAIN}")


@pytest.mark.slow
def test_workers_do_not_outlive_who_launched_them(started: Callable[[str], subprocess.Popen[str]]) -> None:
    process = started(TRAINING)
    process.kill()
    assert outcome(process)[0] == -signal.SIGKILL


def assert_alike(two: Any, one: Any) -> None:
    for model in ("base", "improved", "floor"):
        for score, value in one[model].items():
            assert two[model][score]["value"] == pytest.approx(value["value"], rel=1e-5)
