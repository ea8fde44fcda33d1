"""`genplug convert`: published weights become safetensors that genplug loads, or nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import genplug
from genplug.errors import WeightsError
from genplug.foreign import convert
from genplug_cli.main import execute

TINY = {
    "resolution": 8,
    "channels": 4,
    "latent": True,
    "num_classes": 5,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
    "channels_per_head": 16,
    "logvar_channels": 16,
}
SETS = [word for key, value in TINY.items() for word in ("--set", f"generator.{key}={json.dumps(value)}")]
FOR_TINY = ["--for", "edm2", "--set", "generator.preset=none", *SETS]


def command(*words: object) -> int:
    return execute(["convert", *map(str, words)])


@pytest.fixture
def snapshot(golden: Path) -> Path:
    return golden / "snapshots" / "edm2_tiny_snapshot.pkl"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "x.safetensors"


def refused(capsys: pytest.CaptureFixture[str], out: Path) -> str:
    """Return the one line that was said; nothing was written."""
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert not out.exists()
    assert not list(out.parent.glob(".*"))
    return said


def test_a_published_snapshot_reproduces_its_outputs(snapshot: Path, golden: Path, out: Path) -> None:
    assert command(snapshot, out, *FOR_TINY) == 0
    given = load_file(golden / "edm2_tiny_snapshot.safetensors")
    generator = genplug.load("edm2", preset="none", weights=str(out), **TINY)
    network = generator.denoiser.full_precision().module
    with torch.no_grad():
        D_x, logvar = network(given["in/x"], given["in/sigma"], given["in/labels"], return_logvar=True)
    for found, name in ((D_x, "D_x_fp32"), (logvar, "logvar_fp32")):
        expected = given[f"out/{name}"]
        assert float((found - expected).abs().max()) <= 5e-5 * float(expected.std(correction=0))


def test_it_says_what_it_found(snapshot: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(snapshot, out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["part"], found["tensors"]) == ("nvlabs-pickle", "ema", 63)
    assert found["facts"]["encoder"]["class_name"] == "StabilityVAEEncoder"
    assert command(snapshot, out, "--force") == 0
    assert f"{found['parameters']:,} parameters" in capsys.readouterr().out


def test_the_result_says_where_it_comes_from(snapshot: Path, out: Path) -> None:
    found = convert(snapshot, out, metadata={"licence": "CC BY-NC-SA 4.0"})
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["source"] == snapshot.name
    assert metadata["source_sha256"] == found.sha256
    assert metadata["licence"] == "CC BY-NC-SA 4.0"
    assert json.loads(metadata["facts"])["class_name"] == "Precond"


def test_half_precision_is_written_in_single_precision(snapshot: Path, out: Path) -> None:
    convert(snapshot, out)
    assert {value.dtype for value in load_file(out).values()} == {torch.float32}


def test_misfits_are_named_and_nothing_is_written(tmp_path: Path, out: Path) -> None:
    torch.save(
        {"a.weight": torch.ones(2), "b.weights": torch.ones(3), "old": torch.ones(1)}, tmp_path / "x.pt"
    )
    fits = {"a.weight": (4,), "b.weight": (3,), "gain": ()}
    with pytest.raises(WeightsError) as caught:
        convert(tmp_path / "x.pt", out, fits=fits, what="the tiny network")
    told = str(caught.value)
    assert "does not fit the tiny network: b.weights is perhaps b.weight; missing gain; extra old" in told
    assert "a.weight is (2,), not (4,)" in told
    assert not out.parent.exists()


def test_weights_of_another_network_are_refused(
    golden: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(golden / "snapshots" / "edm_tiny_snapshot.pkl", out, *FOR_TINY) == 2
    assert "does not fit generator 'edm2': " in refused(capsys, out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--part", "emma"], "no part 'emma'; did you mean 'ema'"),
        (["--prefix", "net"], "no tensors below 'net.'"),
        (["--for", "edm3"], "no generator named 'edm3'; did you mean 'edm2'"),
        (["--set", "generator.resolution=8"], "name it with --for"),
        (["--for", "edm2", "--set", "resolution=8"], "did you mean 'generator.resolution'"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, snapshot: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(snapshot, out, *words) == 2
    assert message in refused(capsys, out)


def test_nothing_is_replaced_unasked(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.safetensors"
    there.write_text("precious")
    assert command(snapshot, there) == 2
    assert "--force" in capsys.readouterr().err
    assert there.read_text() == "precious"
    copy = tmp_path / "copy.pkl"
    copy.write_bytes(snapshot.read_bytes())
    assert command(copy, copy, "--force") == 2
    assert "is the file to convert" in capsys.readouterr().err
    assert copy.read_bytes() == snapshot.read_bytes()


def test_a_place_that_cannot_be_written_is_one_line(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command(snapshot, tmp_path / "file" / "x.safetensors") == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["edm2_tiny_snapshot.pkl", "x.pt"])
def test_other_formats_as_weights_name_the_command(name: str, golden: Path, tmp_path: Path) -> None:
    """Only `convert` reads them: what a run uses is safetensors."""
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
    path = next(folder / name for folder in (golden / "snapshots", tmp_path) if (folder / name).exists())
    with pytest.raises(WeightsError, match=f"genplug convert .*{name} OUT"):
        genplug.load("edm2", weights=str(path))
