"""The parity runner: good on every golden file, and able to fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))

import parity

FILES = sorted((Path(__file__).parent / "golden").glob("*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_output_is_recomputed_within_its_tolerance(path: Path) -> None:
    verdicts, missing = parity.check(path)
    assert missing == []
    assert [v for v in verdicts if not v.good] == []
    assert len(verdicts) >= 2


def changed(path: Path, out: Path, key: str, value: torch.Tensor) -> Path:
    """Copy a golden file with one tensor replaced or added."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors[key] = value
    save_file(tensors, out / path.name, metadata)
    return out / path.name


def test_an_error_beyond_tolerance_and_an_unknown_output_fail(tmp_path: Path, golden: Path, capsys) -> None:
    source = golden / "edm2_unet_a.safetensors"
    with safe_open(source, framework="pt") as file:
        D_x = file.get_tensor("out/D_x")
    wrong = changed(source, tmp_path, "out/D_x", D_x + 1e-3 * D_x.std())
    assert parity.main([str(wrong)]) == 1
    assert "FAIL out/D_x " in capsys.readouterr().out
    extra = changed(source, tmp_path, "out/else", D_x)
    assert parity.main([str(extra)]) == 1
    assert "FAIL out/else  not recomputed" in capsys.readouterr().out
    nan = changed(source, tmp_path, "out/D_x", D_x * float("nan"))
    assert parity.main([str(nan)]) == 1
