"""Full disks and unwritable caches: one line, nothing finished is lost, the same command continues."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = "run -g fake-latent -o none --dataset fake-tiles --extractor fake-mean --evaluator fake-gap --quiet"
SIZES = ["--set", "run.samples=120", "--set", "run.blocks=2", "--set", "run.batch_size=3"]
COMMAND = [*RUN.split(), *SIZES]

ENTRY = "import sys; from genplug_cli.main import execute; sys.exit(execute(sys.argv[1:]))"

# Run a command with room for `room` more bytes, then repeat it with all the room there is.
FULL = """
import json, os, sys
from pathlib import Path
from genplug_cli.main import execute
room, directory, *command = json.loads(sys.argv[1])
ballast = Path("full/ballast")
def fill(room):
    free = os.statvfs("full").f_bavail * os.statvfs("full").f_frsize
    ballast.write_bytes(bytes(max(free - room, 0)))
fill(room)
code = execute(command)
finished = len(list(Path("full").rglob("batch-*.npz"))) + len(list(Path("full").rglob("*.partial/*.png")))
left = [p.name for p in Path("full").rglob(".*") if p.name.startswith(".batch")]
ballast.unlink()
again = execute(command)
metrics = Path(directory, "metrics.json")
print(json.dumps({"code": code, "finished": finished, "left": left, "again": again,
    "metrics": json.loads(metrics.read_text()) if metrics.is_file() else None}))
"""
tmpfs = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root for a small tmpfs of its own"
)


def genplug(place: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "genplug", *command]
    surroundings = {**os.environ, **environment}
    return subprocess.run(arguments, cwd=place, env=surroundings, capture_output=True, text=True, timeout=300)


def scores(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in ("base", "floor")}


def told(stderr: str) -> list[str]:
    """Return what a command said, but for the weights that fakes do not have."""
    return [line for line in stderr.splitlines() if "has no weights" not in line]


def on_a_full_disk(
    place: Path, room: int, directory: str, command: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return what became of a command, and what it said, in a mount namespace that ends with it."""
    (place / "full").mkdir()
    arguments = json.dumps([room, directory, *command])
    script = 'mount -t tmpfs -o size=2m none full && exec "$@"'
    inside = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", FULL, arguments]
    done = subprocess.run(inside, cwd=place, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), told(done.stderr)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("undisturbed")
    done = genplug(place, *COMMAND, "--out", "x", GENPLUG_CACHE=str(place / "cache"))
    assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads((place / "x" / "metrics.json").read_text())
    return metrics


@tmpfs
@pytest.mark.slow
@pytest.mark.parametrize("room", [20_000, 150_000, 420_000])
def test_a_run_on_a_full_disk_ends_in_one_line_and_continues(
    tmp_path: Path, room: int, undisturbed: dict[str, Any]
) -> None:
    outcome, said = on_a_full_disk(tmp_path, room, "full/x", [*COMMAND, "--out", "full/x"])
    assert (outcome["code"], outcome["again"]) == (2, 0), said
    assert said == ["Error: no space left on device; make room and repeat the command"]
    assert outcome["left"] == []
    assert (outcome["finished"] > 5) is (room > 100_000)
    assert scores(outcome["metrics"]) == scores(undisturbed)


@tmpfs
@pytest.mark.slow
def test_sampling_to_a_full_disk_ends_in_one_line_and_continues(tmp_path: Path) -> None:
    command = ["sample", "fake-latent", "-o", "full/x.npz", "-n", "300", "--batch", "3", "--quiet"]
    outcome, said = on_a_full_disk(tmp_path, 200_000, "full", command)
    assert (outcome["code"], outcome["again"]) == (2, 0), said
    assert said == ["Error: no space left on device; make room and repeat the command"]
    assert outcome["finished"] > 5


@tmpfs
@pytest.mark.slow
def test_a_full_cache_costs_speed_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENPLUG_CACHE", "full")
    outcome, said = on_a_full_disk(tmp_path, 0, "x", [*COMMAND, "--out", "x"])
    assert outcome["code"] == 0
    (line,) = said
    assert line.startswith("Warning: features are not cached in full/features (")


def test_files_that_may_not_grow_end_a_command_in_one_line(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    """A limit on the size of files is what a full quota is: it needs no privilege to provoke."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900)); {ENTRY}"
    arguments = [sys.executable, "-c", limited, *COMMAND, "--out", "x"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert told(done.stderr) == ["Error: file too large; make room and repeat the command"]
    assert genplug(tmp_path, *COMMAND, "--out", "x").returncode == 0
    metrics = json.loads((tmp_path / "x" / "metrics.json").read_text())
    assert scores(metrics) == scores(undisturbed)


EVALUATE = "evaluate fake-tiles:train fake-tiles:held-out --extractor fake-mean --evaluator fake-gap --quiet"


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write anywhere")
def test_a_read_only_cache_costs_speed_and_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o555)
    privileges = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*privileges, sys.executable, "-m", "genplug", *EVALUATE.split()],
        env={**os.environ, "GENPLUG_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == (
        f"Warning: features are not cached in {tmp_path}/cache/features (Permission denied)\n"
    )
    assert "gap" in done.stdout


def test_a_cache_below_a_file_costs_speed_and_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = genplug(tmp_path, *EVALUATE.split(), GENPLUG_CACHE=str(tmp_path / "file" / "cache"))
    assert done.returncode == 0
    assert done.stderr.startswith("Warning: features are not cached in")
    assert done.stderr.count("\n") == 1


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    first = genplug(tmp_path, *EVALUATE.split(), GENPLUG_CACHE="cache")
    cached = sorted((tmp_path / "cache" / "features").iterdir())
    cached[0].write_bytes(b"damaged")
    shutil.copy(cached[1], cached[1].with_suffix(".kept"))
    cached[1].write_bytes(cached[1].read_bytes()[:-5])
    again = genplug(tmp_path, *EVALUATE.split(), GENPLUG_CACHE="cache")
    assert (first.returncode, again.returncode, again.stdout) == (0, 0, first.stdout)
    assert cached[1].read_bytes() == cached[1].with_suffix(".kept").read_bytes()
