"""Two processes do what one does: the same samples, features, gradients, weights and scores."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import PATIENCE, command, finish, scores

from genplug.checkpoints import load_weights

SCRIPT = str(Path(__file__).with_name("two_ranks.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
pytestmark = pytest.mark.slow


def ranks(out: Path, processes: int, *words: str) -> list[dict[str, Any]]:
    """Train in so many processes; return what each of them wrote."""
    out.mkdir()
    launch = [sys.executable, *TORCHRUN, str(processes), SCRIPT, str(out), *words]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(processes)]


def test_gradients_are_equal_on_both_ranks_and_rows_are_shared_out(tmp_path: Path) -> None:
    (one,) = ranks(tmp_path / "one", 1)
    first, second = ranks(tmp_path / "two", 2)
    assert first["gradients"] == second["gradients"]
    assert len(set(first["gradients"])) == 4
    assert first["weights"] == second["weights"]
    for both, *apart in zip(one["seeds"], first["seeds"], second["seeds"], strict=True):
        assert sorted([*apart[0], *apart[1]]) == both
    last = "fit/step-00000004.raw.safetensors"
    whole, shared = load_weights(tmp_path / "one" / last), load_weights(tmp_path / "two" / last)
    assert all(np.allclose(whole[name], shared[name], atol=1e-5) for name in whole)


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(tmp_path: Path) -> None:
    first, second = ranks(tmp_path / "two", 2, "2")
    assert first["failure"] == second["failure"]
    assert first["failure"].startswith("loss became nan at step 3 of fit; the last good state is kept in")
    assert (tmp_path / "two/fit.partial/state.pt").is_file()


def test_two_launchers_as_on_two_machines_equal_one_process(tmp_path: Path) -> None:
    """Each starts its own processes; they meet at an address, and one of them writes."""
    small = {"run__samples": 7, "run__batch_size": 3, "objective__pool": 7, "objective__train__steps": 4}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = ["--master_addr", "127.0.0.1", "--master_port", str(free.getsockname()[1])]
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes",
        "2",
        "--nproc_per_node",
        "1",
        *address,
    ]
    work = ["-m", "genplug", *command(tmp_path / "two", **small)]
    machines = [subprocess.Popen([*words, "--node_rank", str(rank), *work]) for rank in (0, 1)]
    assert [machine.wait(PATIENCE) for machine in machines] == [0, 0]
    one, two = finish(tmp_path / "one", **small), scores(tmp_path / "two")
    for score, found in one["improved"].items():
        assert two["improved"][score]["value"] == pytest.approx(found["value"], abs=1e-5)


def arrays(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of all batches of a sample set, joined in order of the files."""
    files = [np.load(path) for path in sorted(folder.glob("batch-*.npz"))]
    return {name: np.concatenate([file[name] for file in files]) for name in files[0].files}


COUNTS = {"7 in batches of 3": (7, 3), "1 in a batch of 3": (1, 3)}


@pytest.mark.parametrize(("samples", "batch"), COUNTS.values(), ids=[*COUNTS])
def test_a_run_of_two_equals_a_run_of_one(
    samples: int, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts that do not divide; features of the second run come from its own cache."""
    changes = {"run__samples": samples, "run__batch_size": batch, "objective__pool": 7}
    changes |= {"objective__beta_mode": "adapt", "objective__adapt_steps": 5, "objective__train__steps": 6}
    metrics = {}
    for processes in (1, 2):
        monkeypatch.setenv("GENPLUG_CACHE", str(tmp_path / f"cache-{processes}"))
        out = tmp_path / f"run-{processes}"
        metrics[processes] = finish(out, "--processes", str(processes), **changes)
    for model in ("base", "improved"):
        for block in ("block-0", "block-1"):
            one, two = (arrays(tmp_path / f"run-{n}/samples/{model}/{block}") for n in (1, 2))
            assert len(set(two["seeds"])) == samples
            assert (one["seeds"] == two["seeds"]).all()
            for name in one:
                np.testing.assert_allclose(two[name], one[name], atol=1e-5)
    for model in ("base", "improved", "floor"):
        for score, found in metrics[1][model].items():
            assert metrics[2][model][score]["value"] == pytest.approx(found["value"], abs=1e-5)
    counts = [
        sorted(len(load_weights(f)["features"]) for f in tmp_path.glob(f"cache-{n}/features/*"))
        for n in (1, 2)
    ]
    assert counts[0] == counts[1]
    assert samples in counts[0]


def test_an_evaluation_by_two_processes_gives_what_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with a cache of its own: both extract, the second one in shares; one process speaks."""
    words = [
        "evaluate",
        "fake-rings:held-out",
        "fake-rings:train",
        "--extractor",
        "pixels",
        "--json",
        "--quiet",
    ]
    words += ["--evaluator", "frechet", "--evaluator", "prdc", "--set", "run.batch_size=7"]
    found = []
    for processes in (1, 2):
        monkeypatch.setenv("GENPLUG_CACHE", str(tmp_path / f"cache-{processes}"))
        command = [sys.executable, "-m", "genplug", *words, "--set", f"runtime.processes={processes}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    one, two = found
    assert {name: score["value"] for name, score in one.items() if name != "run"} == pytest.approx(
        {name: score["value"] for name, score in two.items() if name != "run"}, rel=1e-6
    )
