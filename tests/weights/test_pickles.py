"""What torch saves and NVlabs publishes is read as torch reads it."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from genplug.errors import WeightsError
from genplug.foreign import read_foreign

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
LEGACY = {"_use_new_zipfile_serialization": False}


def state() -> dict[str, torch.Tensor]:
    """Tensors of every type, shared, strided, scalar and empty."""
    base = torch.randn(6, 8)
    tensors = {name: torch.randint(0, 2, (3, 5)).to(getattr(torch, name)) for name in DTYPES}
    views = {"whole": base, "rows": base[2:4], "turned": base.t(), "column": base[:, 3], "again": base}
    return {**tensors, **views, "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4)}


def in_single_precision(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    half = (torch.float16, torch.bfloat16)
    return {name: value.float() if value.dtype in half else value for name, value in tensors.items()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("options", [{}, LEGACY, {"pickle_protocol": 4}, {**LEGACY, "pickle_protocol": 5}])
def test_a_state_dict_is_what_torch_load_gives(options: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "x.bin", **options)
    expected = torch.load(tmp_path / "x.bin", weights_only=False)  # it knows protocol 2 alone otherwise
    assert_equal(read_foreign(tmp_path / "x.bin").tensors, in_single_precision(expected))


@pytest.mark.parametrize("options", [{}, LEGACY])
def test_modules_parameters_and_buffers(options: dict[str, Any], tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    parameters = OrderedDict(module.named_parameters())
    torch.save({"state_dict": module.state_dict(), "step": 3}, tmp_path / "a.pt", **options)
    torch.save(parameters, tmp_path / "b.pt", **options)
    assert_equal(read_foreign(tmp_path / "a.pt").tensors, dict(module.state_dict()))
    assert_equal(read_foreign(tmp_path / "b.pt").tensors, {k: v.detach() for k, v in parameters.items()})


def test_tensors_read_can_be_written_to_without_touching_the_file(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4)}, tmp_path / "x.pt")
    before = (tmp_path / "x.pt").read_bytes()
    read_foreign(tmp_path / "x.pt").tensors["w"].fill_(7)
    assert (tmp_path / "x.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["edm", "edm2"])
def test_published_pickles_give_weights_and_configuration(name: str, golden: Path) -> None:
    """Every tensor of the EMA network exactly, and the call of its constructor."""
    found = read_foreign(golden / "snapshots" / f"{name}_tiny_snapshot.pkl")
    with safe_open(next(golden.rglob(f"{name}_tiny_snapshot.safetensors")), framework="pt") as file:
        meta = json.loads(file.metadata()["meta"])["nets"]["net"]
        weights = {key: file.get_tensor(key) for key in file.keys() if key.startswith("weights/")}  # noqa: SIM118
    expected = {key.removeprefix("weights/"): value for key, value in weights.items()}
    assert (found.format, found.part) == ("nvlabs-pickle", "ema")
    assert_equal(dict(sorted(found.tensors.items())), dict(sorted(expected.items())))
    assert found.facts["class_name"] == meta["class"]
    assert found.facts["init_kwargs"] == meta["kwargs"]


def test_the_encoder_and_data_options_are_read(golden: Path) -> None:
    facts = read_foreign(golden / "snapshots" / "edm2_tiny_snapshot.pkl").facts
    assert facts["encoder"]["class_name"] == "StabilityVAEEncoder"
    assert facts["encoder"]["scale"] == pytest.approx([0.1199, 0.1082, 0.1348, 0.1524], abs=1e-4)
    assert facts["encoder"]["bias"] == pytest.approx([-0.6966, -0.3517, -0.0162, 0.3277], abs=1e-4)
    assert facts["dataset_kwargs"]["use_labels"] is True


W, V = {"w": torch.ones(2)}, {"w": torch.zeros(2)}


@pytest.mark.parametrize(
    ("content", "part", "prefix"),
    [
        (W, "", ""),
        ({"ema": W, "model": V, "opt": {"state": {0: {"m": torch.ones(2)}}}, "steps": 3}, "ema", ""),
        ({"model": V, "model_ema": W, "lr": torch.ones(())}, "model_ema", ""),
        ({"G_ema": W, "G": V, "D": V}, "G_ema", ""),
        ({"net": {"inner": W}, "epoch": 1}, "net.inner", ""),
        ({"state_dict": {"module._orig_mod.w": W["w"]}}, "state_dict", "module._orig_mod."),
        (
            {"state_dict": {"model.diffusion_model.w": W["w"], "first_stage_model.w": V["w"]}},
            "state_dict",
            "model.diffusion_model.",
        ),
    ],
)
def test_the_network_that_is_meant_is_found(content: Any, part: str, prefix: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    found = read_foreign(tmp_path / "x.ckpt")
    assert (found.part, found.prefix) == (part, prefix)
    assert_equal(found.tensors, W)


def test_an_explicit_part_and_prefix_win(tmp_path: Path) -> None:
    content = {"ema": V, "model": {"first.w": W["w"], "second.w": V["w"]}}
    torch.save(content, tmp_path / "x.pt")
    assert_equal(read_foreign(tmp_path / "x.pt", part="model", prefix="first").tensors, W)


@pytest.mark.parametrize(
    ("content", "asked", "message"),
    [
        ({"generator": W, "discriminator": V}, {}, "several parts: 'generator', 'discriminator'; choose one"),
        ({"ema": W}, {"part": "emma"}, "no part 'emma'; did you mean 'ema'"),
        (
            {"a.w": V["w"], "b.w": V["w"]},
            {"prefix": "c"},
            r"no tensors below 'c.' \(names start with 'a', 'b'\)",
        ),
        ({"steps": 3}, {}, "no tensors by name and no network"),
    ],
)
def test_what_cannot_be_told_is_said(
    content: Any, asked: dict[str, str], message: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=message):
        read_foreign(tmp_path / "x.pt", **asked)


def test_a_lightning_checkpoint_names_classes_that_are_never_called(tmp_path: Path) -> None:
    """Its callbacks are keyed by class; protocol 2 writes `c module name`."""
    torch.save({"state_dict": W, "callbacks": {"KEY": {"best": 1.0}}}, tmp_path / "plain.ckpt", **LEGACY)
    named = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    content = (tmp_path / "plain.ckpt").read_bytes().replace(b"X\x03\x00\x00\x00KEY", named)
    (tmp_path / "x.ckpt").write_bytes(content)
    assert_equal(read_foreign(tmp_path / "x.ckpt").tensors, W)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"<html>404</html>", "no safetensors, torch or pickle"), (b"PK\x03\x04", "damaged")],
)
def test_files_that_hold_no_weights(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_foreign(tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="no weights at"):
        read_foreign(tmp_path / "y.pt")
