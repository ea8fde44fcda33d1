"""Weights: what does not fit or is damaged is named; writing is whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from genplug import checkpoints
from genplug.checkpoints import digest, load_strict, load_weights, read_metadata, save_weights
from genplug.errors import WeightsError
from genplug.specs import Preset
from genplug.weights import find, locate

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


def test_weights_and_metadata_survive(tmp_path: Path) -> None:
    save_weights(STATE, tmp_path / "deep" / "w.safetensors", {"a": "b"})
    loaded = load_weights(tmp_path / "deep" / "w.safetensors")
    assert digest(loaded) == digest(STATE)
    assert read_metadata(tmp_path / "deep" / "w.safetensors") == {"a": "b"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["w.safetensors"]


def test_tied_and_strided_tensors_can_be_saved(tmp_path: Path) -> None:
    weight = STATE["weight"]
    save_weights({"a": weight.T, "b": weight, "c": weight}, tmp_path / "w")
    assert torch.equal(load_weights(tmp_path / "w")["a"], weight.T)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": STATE["weight"]}, "missing bias"),
        ({**STATE, "more": torch.zeros(1)}, "extra more"),
        ({**STATE, "bias": torch.zeros(3)}, r"bias is \(3,\), not \(2,\)"),
        (
            {str(i): torch.zeros(1) for i in range(9)},
            "missing weight; missing bias; extra 0; extra 1 and 7 more",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(state: dict[str, torch.Tensor], words: str) -> None:
    layer = nn.Linear(3, 2)
    before = digest(layer.state_dict())
    with pytest.raises(WeightsError, match=words):
        load_strict(layer, state, "the layer")
    assert digest(layer.state_dict()) == before


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(STATE, path)
    path.write_bytes(path.read_bytes()[:keep])
    for read in (load_weights, read_metadata):
        with pytest.raises(WeightsError, match=r"w\.safetensors is not a whole safetensors file"):
            read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights at"):
        load_weights(tmp_path / "gone")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    save_weights(STATE, tmp_path / "w")
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights({}, tmp_path / "w")
    assert digest(load_weights(tmp_path / "w")) == digest(STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_digests_tell_names_shapes_types_and_values_apart() -> None:
    a = torch.arange(4.0)
    states = [{"a": a}, {"b": a}, {"a": a[None]}, {"a": a.double()}, {"a": a + 1}, {}]
    assert len({digest(state) for state in states}) == len(states)
    assert digest({"x": a, "y": a}) == digest({"y": a, "x": a})


def test_missing_weights_of_a_preset_say_where_they_belong() -> None:
    preset = Preset(name="x.far", address="https://example.org/far.safetensors")
    with pytest.raises(
        WeightsError, match=r"'x\.far' are not at .*x\.far\.safetensors; genplug fetch x\.far"
    ):
        find(preset, None)
    with pytest.raises(WeightsError, match="install the package that holds 'no_such_package'"):
        find(Preset(name="x.near", address="package:no_such_package/x.safetensors"), None)
    assert find(Preset(name="x.none"), None) is None


def test_shipped_weights_of_another_digest_are_refused() -> None:
    preset = Preset(name="edm2.x", address="package:genplug_digits/edm2.safetensors", sha256="0" * 64)
    assert find(preset, None) is not None
    with pytest.raises(WeightsError, match=r"has sha256 [0-9a-f]{64}, not 0{64}"):
        locate(preset, None)
