"""Two processes that write to one place at the same time: one works, or both end with one intact file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

JUDGE = ["--extractor", "pixels", "--evaluator", "frechet", "--quiet", "--json"]
RUN = ["run", "-g", "edm2", "-o", "none", "--out", "here", "--set", "run.samples=3000", *JUDGE]
SAMPLE = ["sample", "edm2", "-o", "images", "-n", "4000", "--quiet", "--json"]


def together(place: Path, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run one command line in two processes at once; the one that worked comes first."""
    command = [sys.executable, "-m", "genplug", *arguments]
    started = [
        subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(process, process.communicate(timeout=300)) for process in started]
    done = [subprocess.CompletedProcess(command, p.returncode, out, err) for p, (out, err) in ended]
    return sorted(done, key=lambda process: process.returncode)


def alone(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "genplug", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)


def check_one_refused(done: list[subprocess.CompletedProcess[str]]) -> None:
    assert [process.returncode for process in done] == [0, 2], [process.stderr for process in done]
    (line,) = [text for text in done[1].stderr.splitlines() if not text.startswith("Warning")]
    assert line.startswith("Error: ")
    assert "in use by another process" in line
    assert done[1].stdout == ""


@pytest.mark.slow
def test_of_two_runs_in_one_directory_one_works(tmp_path: Path) -> None:
    done = together(tmp_path, *RUN)
    check_one_refused(done)
    again = alone(tmp_path, *RUN)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["base"] == json.loads(done[0].stdout)["base"]
    assert not list((tmp_path / "here").rglob("*.partial"))


@pytest.mark.slow
def test_of_two_commands_that_write_the_same_samples_one_works(tmp_path: Path) -> None:
    check_one_refused(together(tmp_path, *SAMPLE))
    assert len(list((tmp_path / "images").rglob("*.png"))) == 4000
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.slow
def test_two_writers_of_one_cache_entry_leave_it_intact(tmp_path: Path) -> None:
    command = ["evaluate", "digits:held-out", "digits:train", *JUDGE]
    first, second = together(tmp_path, *command)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    cached = alone(tmp_path, *command)
    scores = [json.loads(done.stdout) for done in (first, second, cached)]
    assert [found.pop("run")["warnings"] for found in scores] == [[], [], []]
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.slow
def test_a_changed_configuration_on_an_old_out_names_key_and_values(tmp_path: Path) -> None:
    small = [*RUN, "--set", "run.samples=20", "--set", "run.blocks=1"]
    assert alone(tmp_path, *small).returncode == 0
    before = (tmp_path / "here" / "metrics.json").read_bytes()
    changed = alone(tmp_path, *small, "--set", "run.seed=7")
    assert changed.returncode == 2
    assert changed.stderr == (
        "Error: here holds another run: run.seed was 0, now 7; "
        "choose another --out, or start again with --force\n"
    )
    assert (tmp_path / "here" / "metrics.json").read_bytes() == before
