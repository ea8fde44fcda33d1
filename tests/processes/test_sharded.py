"""Sharded training equals whole training: losses, weights, averages, and across a stop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genplug.checkpoints import load_weights
from genplug.snapshots import read_curve

SCRIPT = str(Path(__file__).with_name("sharded_training.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def train(out: Path, sharding: str, network: str, stop: int = -1, precision: str = "no") -> Path:
    """Train in one process, or with sharding in two; return the stage's directory."""
    out.mkdir(exist_ok=True)
    launcher = TORCHRUN if sharding == "full" else []
    words = [sys.executable, *launcher, SCRIPT, str(out), sharding, network, precision, str(stop)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out / "fit"


@pytest.mark.slow
@pytest.mark.parametrize("network", ["points", "edm2"])
def test_two_shards_equal_one_whole(network: str, tmp_path: Path) -> None:
    """Clipped, accumulated and averaged, with forced normalisation where the network has it."""
    one = train(tmp_path / "one", "none", network)
    train(tmp_path / "two", "full", network, stop=4)
    assert (tmp_path / "two/fit.partial/state.pt").is_file()
    two = train(tmp_path / "two", "full", network)
    assert "DTensor" in (tmp_path / "two/parameters.json").read_text()
    for a, b in zip(read_curve(one / "curve.jsonl"), read_curve(two / "curve.jsonl"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    files = sorted(path.name for path in one.glob("*.safetensors"))
    assert files == sorted(path.name for path in two.glob("*.safetensors"))
    assert len(files) == 6  # two steps of raw, ema and 0.100
    for name in files:
        torch.testing.assert_close(load_weights(two / name), load_weights(one / name), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_a_state_of_shards_continues_whole(tmp_path: Path) -> None:
    """States and snapshots are whole, so the number of processes may change on the way."""
    one = train(tmp_path / "one", "none", "points")
    train(tmp_path / "both", "full", "points", stop=4)
    both = train(tmp_path / "both", "none", "points")
    assert json.loads((tmp_path / "both/parameters.json").read_text()) == ["Parameter"]
    last = "step-00000006.raw.safetensors"
    torch.testing.assert_close(load_weights(both / last), load_weights(one / last), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_mixed_precision_is_the_same_in_shards(tmp_path: Path) -> None:
    exact, one, two = (
        read_curve(train(tmp_path / name, sharding, "points", precision=precision) / "curve.jsonl")
        for name, sharding, precision in (("a", "none", "no"), ("b", "none", "bf16"), ("c", "full", "bf16"))
    )
    assert exact != one
    for a, b, c in zip(exact, one, two, strict=True):
        assert c["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-2)
