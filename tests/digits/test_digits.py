"""The embedded data: real, fixed, split once and for all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import genplug
from genplug.errors import DataError
from genplug.samplesets import Quantised, read_all
from genplug_digits.dataset import Digits


def test_the_split_is_fixed_and_stratified() -> None:
    train, held_out = Digits().split("train"), Digits().split("held-out")
    assert (len(train), len(held_out)) == (1297, 500)
    assert train.shape == (1, 8, 8)
    counts = torch.bincount(held_out.labels)
    assert counts.min() >= 48
    assert counts.max() <= 51
    assert held_out.fingerprint == Digits().split("held-out").fingerprint
    assert held_out.fingerprint.startswith("c6912e19b3474337")


def test_images_have_17_grey_levels_and_quantising_keeps_them() -> None:
    images = read_all(Digits().split("train"))
    assert len(images.unique()) == 17
    assert torch.equal(read_all(Quantised(Digits().split("train"), 17)), images)


def test_no_held_out_image_is_in_the_training_data() -> None:
    train, held_out = (read_all(Digits().split(name)).flatten(1) for name in ("train", "held-out"))
    assert not (held_out[:, None] == train[None]).all(2).any()


def test_it_is_the_data_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = torch.from_numpy(datasets.load_digits().images * (255 / 16)).round().to(torch.uint8).flatten(1)
    ours = torch.cat([read_all(Digits().split(name)).flatten(1) for name in ("train", "held-out")])
    assert torch.equal(theirs.unique(dim=0), ours.unique(dim=0))


def test_an_unknown_split_is_one_line() -> None:
    with pytest.raises(DataError, match="digits have the splits train, held-out, not 'test'"):
        Digits().split("test")


def test_larger_digits_are_the_same_ones_interpolated() -> None:
    """Averaging 16 pixels back to 8 gives nearly the original; labels, rows and split stay."""
    small, large = Digits().split("train"), Digits(16).split("train")
    assert large.shape == (1, 16, 16)
    assert Digits(28).split("held-out").shape == (1, 28, 28)
    assert torch.equal(small.labels, large.labels)
    pooled = torch.nn.functional.avg_pool2d(read_all(large).float(), 2)
    assert (pooled - read_all(small).float()).abs().mean() < 12  # bicubic blurs a little
    assert (Digits().levels, Digits(16).levels) == (17, 256)
    assert small.fingerprint != large.fingerprint


def test_a_generator_of_another_resolution_is_refused_in_one_line(tmp_path: Path) -> None:
    options = {"dataset__resolution": 16, "run__samples": 4, "run__blocks": 1}
    with pytest.raises(DataError, match=r"\(1, 8, 8\).*\(1, 16, 16\)"):
        genplug.run("edm2", ["none"], dataset__name="digits", out=tmp_path / "run", **options)
