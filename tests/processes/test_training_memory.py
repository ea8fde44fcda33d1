"""A training step that does not fit in memory: done in more pieces, with the same result, said once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genplug.checkpoints import load_weights

SCRIPT = str(Path(__file__).with_name("hungry_training.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def train(out: Path, spare: int, *launcher: str) -> tuple[int, str]:
    """Train with so many megabytes to spare (0: no limit); return exit code and errors."""
    out.mkdir()
    words = [sys.executable, *launcher, SCRIPT, str(out), str(spare)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_step_is_split_until_it_fits(tmp_path: Path) -> None:
    """14 rows of 128 MiB do not fit in 850 MiB, nor do 7; 4 do, and what else a step takes."""
    for name, spare in (("free", 0), ("tight", 850)):
        assert train(tmp_path / name, spare) == (0, "")
    assert json.loads((tmp_path / "free/warnings.json").read_text()) == []
    said = ["/fit: a step does not fit in memory; continued with 4 rows at once"]
    assert json.loads((tmp_path / "tight/warnings.json").read_text()) == said
    (event,) = map(json.loads, (tmp_path / "tight/events.jsonl").read_text().splitlines())
    assert (event["event"], event["step"], event["continued_with"]) == ("out-of-memory", 0, 4)
    last = "fit/step-00000003.raw.safetensors"
    free, tight = (load_weights(tmp_path / name / last) for name in ("free", "tight"))
    torch.testing.assert_close(tight, free, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_one_row_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    code, error = train(tmp_path / "x", 100)
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith("OutOfMemoryError: out of memory: a training step of /fit, 14 rows in 14 parts")


@pytest.mark.slow
def test_several_processes_are_told_what_to_set(tmp_path: Path) -> None:
    """One of them cannot split alone: the others wait for its gradients."""
    code, error = train(tmp_path / "x", 200, *TORCHRUN)
    assert code == 1
    assert "does not fit; raise train.accumulate (now 1) and start again" in error
