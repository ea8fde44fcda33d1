"""Killed in every stage, by every signal: the same command ends with the scores of an uninterrupted run.

Nothing in the product helps: a moment is the first sign of a stage in the run directory and a random
delay after it. Where a kill really fell is read from what it left.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_runs import await_, command, scores

pytestmark = [pytest.mark.storm, pytest.mark.slow]

#: The first sign of each stage in a run directory, or in the cache beside it, in the order of work.
STAGES = {
    "building": "x",
    "selection": "x/stages/1-ddo/select/*",
    "pool": "x/stages/1-ddo/round-1/pool*/batch-*",
    "training": "x/stages/1-ddo/round-1/fit-1*",
    "candidates": "x/stages/1-ddo/select/round-1-*",
    "sampling base": "x/samples/base/block-0*/batch-*",
    "sampling improved": "x/samples/improved/block-0*/batch-*",
    "features": "x/stages/scores/base/block-0*",
    "scores": "x/stages/scores/improved/*",
    "report": "x/metrics.json",
}
SIGNALS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
POINTS = [(stage, signal.SIGKILL) for stage in STAGES]
POINTS += [(stage, (signal.SIGTERM, signal.SIGINT)[at % 2]) for at, stage in enumerate(STAGES)]
DELAY = 0.02  # seconds
TRIES = 12  # to hit a stage before the next one begins, each sooner after its first sign


class Server:
    """Starts genplug in processes that have imported torch already (see `storm_server`)."""

    def __init__(self) -> None:
        words = [sys.executable, str(Path(__file__).with_name("storm_server.py"))]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, folder: Path) -> int:
        """Start a run in a folder, with a cache of its own; return the process's number."""
        environment = {"GENPLUG_CACHE": str(folder / "cache")}
        request = {"arguments": command(folder / "x"), "environment": environment}
        self._say({**request, "stderr": str(folder / "stderr")})
        return self._answer()

    def wait(self) -> int:
        """Return the exit code of the process that runs."""
        return self._answer()

    def _say(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def _answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@dataclass
class Storm:
    """One run directory that is killed again and again."""

    server: Server
    folder: Path
    luck: random.Random

    def strike(self, stage: str, number: int, delay: float = DELAY) -> str | None:
        """Kill the run in a stage; return the stage in which it died, None if it got through."""
        self.folder.mkdir(parents=True, exist_ok=True)
        process = self.server.start(self.folder)
        alive = Path(f"/proc/{process}").exists
        await_(lambda: any(self.folder.glob(STAGES[stage])), alive)
        time.sleep(self.luck.uniform(0, delay))
        with suppress(ProcessLookupError):
            os.kill(process, number)
        code = self.server.wait()
        if code == 0:
            return None
        assert code == SIGNALS[signal.Signals(number)], (self.folder / "stderr").read_text()
        self.check_last_words(number)
        return self.reached()

    def check_last_words(self, number: int) -> None:
        words = (self.folder / "stderr").read_text().splitlines()
        said = [line for line in words if not line.startswith("Warning:")]
        resume = "Interrupted; the same command continues where it stopped"
        assert said == ([] if number == signal.SIGKILL else [resume])

    def reached(self) -> str:
        """Return the last stage of which there is a sign."""
        signs = [stage for stage, pattern in STAGES.items() if any(self.folder.glob(pattern))]
        return signs[-1] if signs else "building"

    def finish(self) -> dict[str, Any]:
        """Let the run end; return its scores."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server.start(self.folder)
        assert self.server.wait() == 0, (self.folder / "stderr").read_text()
        assert (self.folder / "x/report.html").is_file()
        return scores(self.folder / "x")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def uninterrupted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Storm(server, tmp_path_factory.mktemp("whole"), random.Random(0)).finish()


@pytest.mark.parametrize(("stage", "number"), POINTS, ids=lambda value: getattr(value, "name", value))
def test_one_blow(
    stage: str, number: signal.Signals, server: Server, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """In every stage, by SIGKILL and by SIGTERM or Ctrl-C: 20 points, each continued to its end."""
    luck = random.Random(f"{stage} {number}")
    for attempt in range(TRIES):
        storm = Storm(server, tmp_path / str(attempt), luck)
        died_in = storm.strike(stage, number, DELAY * 0.6**attempt)
        assert storm.finish() == uninterrupted
        if died_in == stage:
            return
    pytest.fail(f"never died in {stage}")


def test_blow_after_blow(server: Server, uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    """One directory, killed again and again wherever it is."""
    storm = Storm(server, tmp_path, random.Random(1))
    died_in = [storm.strike(stage, storm.luck.choice([*SIGNALS])) for stage in STAGES]
    assert len(set(died_in) - {None}) > 5
    assert storm.finish() == uninterrupted
