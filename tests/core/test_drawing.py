"""`genplug.sample`, and weights that are missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genplug
from genplug.errors import ConfigError, DataError, GenplugError, RunDirectoryError, WeightsError
from genplug.planning import plan
from genplug.resolving import resolve

NAMED = {"dataset": "fake-rings", "extractors": ["fake-mean"], "evaluators": ["fake-gap"]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_samples_are_those_of_the_generator_whatever_the_batch(here: Path) -> None:
    generator = genplug.load("fake-points", sampler__steps=3)
    seeds_N = torch.arange(4, 11)
    expected = generator.sample(seeds_N, generator.conditions(seeds_N))
    for batch_size in (2, 7):
        out = here / f"{batch_size}.npz"
        assert (
            genplug.sample("fake-points", 7, out=out, first_seed=4, batch_size=batch_size, sampler__steps=3)
            == out
        )
        with np.load(out) as archive:
            assert np.allclose(archive["arr_0"], expected.numpy(), atol=1e-5)
            assert archive["seeds"].tolist() == seeds_N.tolist()
    assert sorted(path.name for path in here.iterdir()) == ["2.npz", "7.npz"]


def test_a_folder_has_a_manifest(here: Path) -> None:
    genplug.sample("fake-tokens", 3, out="x", first_seed=2)
    manifest = json.loads((here / "x" / "manifest.json").read_text())
    assert manifest["generator"] == "fake-tokens"
    assert [row["seed"] for row in manifest["samples"]] == [2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"out": "x.npy"}, DataError, "samples are written to a folder"),
        ({"out": "."}, DataError, "exists"),
        ({"out": "folder"}, DataError, "points can only be written to .npz"),
        ({"classes": "balance"}, ConfigError, "did you mean 'balanced'?"),
        ({"n": 0}, ConfigError, "expected at least 1"),
        ({"first_seed": -1}, ConfigError, "expected 0 to 2"),
        ({"first_seed": 2**60}, ConfigError, "expected 0 to 2"),
        ({"wdith": 3}, ConfigError, "did you mean 'generator.width'?"),
        ({"reference": "fake-pionts"}, GenplugError, "did you mean 'fake-points'?"),
    ],
)
def test_mistakes_leave_nothing(
    here: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    asked: dict[str, Any] = {"reference": "fake-points", "n": 2, "out": "x.npz", **changes}
    with pytest.raises(error) as caught:
        genplug.sample(asked.pop("reference"), asked.pop("n"), **asked)
    assert words in str(caught.value)
    assert not list(here.iterdir())


def test_unfinished_samples_of_other_options_of_a_run_are_not_mixed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genplug.denoiser import DenoiserGenerator

    sets = [("run.samples", 4), ("run.blocks", 1)]
    genplug.run(resolved=resolve(generator="fake-points", objectives=["none"], sets=sets, **NAMED), out="r")
    whole, calls = DenoiserGenerator.sample, []

    def second_fails(self: Any, *arguments: Any) -> torch.Tensor:
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(DenoiserGenerator, "sample", second_fails)
    with pytest.raises(KeyboardInterrupt):
        genplug.sample("r:base", 4, out="x.npz", batch_size=2, sampler__steps=3)
    with pytest.raises(RunDirectoryError, match="unfinished samples of another command"):
        genplug.sample("r:base", 4, out="x.npz", batch_size=2, sampler__steps=4)
    genplug.sample("r:base", 4, out="x.npz", batch_size=2, sampler__steps=3)
    assert len(calls) == 3


def missing(**changes: Any) -> Any:
    sets = [("generator.weights", "gone.safetensors")]
    return resolve(generator="fake-points", objectives=["none"], sets=sets, **NAMED)


def test_a_plan_with_missing_weights_says_so(here: Path) -> None:
    assert plan(missing())["generator"]["weights"] == "MISSING: no weights at gone.safetensors"


def test_a_run_with_missing_weights_leaves_no_directory(here: Path) -> None:
    with pytest.raises(WeightsError, match="no weights at gone"):
        genplug.run(resolved=missing(), out="x")
    assert not list(here.iterdir())


def test_missing_weights_of_a_second_generator_are_found_before_torch(here: Path) -> None:
    (here / "registry.toml").write_text('[preset."fake-points.far"]\naddress = "https://example.org/w"\n')
    command = ["run", "-g", "fake-points", "-o", "fake-contrast", "--set", "objective.guide=fake-points.far"]
    command += ["--dataset", "fake-rings", "--extractor", "fake-mean", "--evaluator", "fake-gap"]
    code = (
        "import sys; from genplug_cli.main import execute; code = execute(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    for more, exit_code in (["--plan"], 0), (["--processes", "2"], 2), ([], 2):
        done = subprocess.run(
            [sys.executable, "-c", code, *command, *more], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == exit_code, done.stderr
        assert "the weights of 'fake-points.far' are not at" in done.stdout + done.stderr
        assert done.stderr.count("\n") == (0 if more == ["--plan"] else 1)
