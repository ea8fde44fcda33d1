"""Killed in the neighbour search and in training, or shared by two processes: the result is the same."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import genplug
from genplug.checkpoints import load_weights
from genplug.resolving import resolve

#: Counts calls of a function and ends its own process, by a signal that nothing can catch, at one of them.
KILL = """
import os, signal, sys
import genplug_distances.exact, genplug_flow.objective
from genplug_cli.main import main

def until(owner, name, calls):
    inner, seen = getattr(owner, name), []
    def counted(*args, **options):
        seen.append(1)
        if len(seen) > calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **options)
    setattr(owner, name, counted)

until({owner}, {name!r}, {calls})
sys.argv = ["genplug", *{words!r}]
main()
"""
MOMENTS = {
    "neighbours": ("genplug_distances.exact.ExactIndex", "search", 5),
    "training": ("genplug_flow.objective", "flow_step", 6),
}
SETTINGS = {
    "run.samples": 20,
    "run.blocks": 1,
    "run.batch_size": 25,
    "objective.k": 3,
    "objective.steps": 4,
    "objective.train.steps": 10,
    "objective.train.batch_size": 16,
    "objective.train.checkpoint_seconds": 0,
}
NAMES = {"dataset": "fake-rings", "extractor": "fake-mean", "evaluator": "fake-gap"}
WORDS = ["run", "-g", "fake-points", "-o", "flow", "--quiet"]
WORDS += [word for name, value in NAMES.items() for word in (f"--{name}", value)]
WORDS += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]


def finish(out: Path) -> dict[str, torch.Tensor]:
    """Run to the end; return the flow's weights."""
    resolved = resolve(
        generator="fake-points",
        objectives=["flow"],
        dataset=NAMES["dataset"],
        extractors=[NAMES["extractor"]],
        evaluators=[NAMES["evaluator"]],
        sets=list(SETTINGS.items()),
    )
    genplug.run(resolved=resolved, out=out)
    return load_weights(out / "generator/1-flow/weights.safetensors")


@pytest.mark.slow
def test_a_killed_flow_continues_to_the_same_result(tmp_path: Path) -> None:
    whole = finish(tmp_path / "whole")
    out = tmp_path / "x"
    for moment, (owner, name, calls) in MOMENTS.items():
        code = KILL.format(owner=owner, name=name, calls=calls, words=[*WORDS, "--out", str(out)])
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr
        stages = out / "stages/1-flow"
        if moment == "neighbours":
            found = sorted((stages / "neighbours.partial").glob("batch-*"))
            assert 0 < len(found) < 8
            kept = {path.name: path.stat().st_mtime_ns for path in found}
        else:
            assert (stages / "fit.partial/state.pt").is_file()
            assert {n: (stages / "neighbours" / n).stat().st_mtime_ns for n in kept} == kept
    resumed = finish(out)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    seeds_N = torch.arange(4)
    one, two = (genplug.load(f"{tmp_path / name}:improved") for name in ("whole", "x"))
    cond = one.conditions(seeds_N)
    assert torch.equal(one.sample(seeds_N, cond), two.sample(seeds_N, cond))


@pytest.mark.slow
def test_two_processes_share_the_search_and_find_the_same(tmp_path: Path) -> None:
    one = finish(tmp_path / "one")
    words = [sys.executable, "-m", "genplug", *WORDS, "--processes", "2", "--out", str(tmp_path / "two")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    tables = [
        torch.cat([load_weights(path)["rows"] for path in sorted(folder.glob("batch-*"))])
        for folder in (tmp_path / name / "stages/1-flow/neighbours" for name in ("one", "two"))
    ]
    assert torch.equal(*tables)
    two = load_weights(tmp_path / "two/generator/1-flow/weights.safetensors")
    assert all(torch.allclose(two[name], value, atol=1e-5) for name, value in one.items())
