"""Sample sets on disk: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.readers import open_path
from genplug.samplesets import ArraySet, Joined, Quantised, SampleSet, Subset, first, read_all, subsample
from genplug.writers import export, png

N = 5
LABELS = torch.tensor([7, 0, 7, 12, 3])


def images(channels: int = 3, n: int = N, height: int = 4, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator).to(torch.uint8)


def by_content(samples: SampleSet) -> dict[bytes, int | None]:
    """Return labels by image: the order of a folder with subfolders is its own."""
    labels = [None] * len(samples) if samples.labels is None else samples.labels.tolist()
    return {sample.numpy().tobytes(): label for sample, label in zip(read_all(samples), labels, strict=True)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("place", ["folder", "x.zip", "x.npz"])
def test_what_is_written_is_read_back(
    tmp_path: Path, place: str, labels: Tensor | None, channels: int
) -> None:
    samples = ArraySet(images(channels), labels)
    export(samples, tmp_path / place)
    found = open_path(tmp_path / place)
    assert (len(found), found.shape) == (N, (channels, 4, 6))
    assert by_content(found) == by_content(samples)
    if place != "folder":
        assert torch.equal(read_all(found), samples.samples)
    assert [path.name for path in tmp_path.iterdir()] == [place]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (3, 1), (3, 3)])
def test_small_images_keep_their_axes(tmp_path: Path, height: int, width: int) -> None:
    samples = images(3, height=height, width=width)
    export(ArraySet(samples), tmp_path / "x.npz")
    assert torch.equal(read_all(open_path(tmp_path / "x.npz")), samples)


def test_an_archive_is_what_numpy_writes(tmp_path: Path) -> None:
    samples = images(1, n=300)  # more than a batch
    export(ArraySet(samples, torch.arange(300)), tmp_path / "x.npz", torch.arange(300) + 5)
    with np.load(tmp_path / "x.npz") as archive:
        assert {name: archive[name].shape[0] for name in archive.files} == dict.fromkeys(
            ("arr_0", "arr_1", "seeds"), 300
        )
        assert np.array_equal(archive["arr_0"], samples.permute(0, 2, 3, 1).numpy())
        assert archive["seeds"][0] == 5


@pytest.mark.parametrize("place", ["folder", "x.zip"])
def test_a_manifest_tells_seeds_and_facts(tmp_path: Path, place: str) -> None:
    export(ArraySet(images(), LABELS), tmp_path / place, torch.arange(N) + 3, {"generator": "x"})
    if place == "folder":
        text = (tmp_path / place / "manifest.json").read_bytes()
    else:
        text = zipfile.ZipFile(tmp_path / place).read("manifest.json")
    manifest = json.loads(text)
    assert manifest["generator"] == "x"
    assert manifest["samples"][1] == {"index": 1, "seed": 4, "label": 0}


@pytest.mark.parametrize("place", ["x.npy", "x.png", "x.tar"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(DataError, match=rf"{place}: samples are written to a folder .*, \.npz or \.zip"):
        export(ArraySet(images()), tmp_path / place)


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists; name another place"):
        export(ArraySet(images()), tmp_path)


def test_points_go_to_npz_and_come_from_arrays(tmp_path: Path) -> None:
    points = torch.randn(6, 2)
    export(ArraySet(points), tmp_path / "p.npz")
    np.save(tmp_path / "p.npy", points.numpy().astype(np.float64))
    for name in ("p.npz", "p.npy"):
        assert torch.equal(read_all(open_path(tmp_path / name)), points)
    with pytest.raises(DataError, match=r"points can only be written to \.npz"):
        export(ArraySet(points), tmp_path / "folder")


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_arrays_are_mapped_not_read(tmp_path: Path, name: str) -> None:
    array = np.zeros((2000, 32, 32, 3), dtype=np.uint8)
    (np.savez if name == "x.npz" else np.save)(tmp_path / name, array)
    tracemalloc.start()
    samples = open_path(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples.shape == (3, 32, 32)
    assert peak < array.nbytes / 4


def test_a_compressed_archive_is_read_too(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", images().permute(0, 2, 3, 1).numpy())
    assert torch.equal(read_all(open_path(tmp_path / "x.npz")), images())


def test_labels_are_those_of_subfolders(tmp_path: Path) -> None:
    for number, label in enumerate(["dog", "cat", "dog"]):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{number}.png").write_bytes(png(images()[number]))
    labels = open_path(tmp_path).labels
    assert labels is not None
    assert labels.tolist() == [0, 1, 1]
    (tmp_path / "3.png").write_bytes(png(images()[3]))
    assert open_path(tmp_path).labels is None


def test_images_without_a_listed_label_are_named(tmp_path: Path) -> None:
    export(ArraySet(images(), LABELS), tmp_path / "x")
    (tmp_path / "x" / "0000" / "new.png").write_bytes(png(images()[0]))
    with pytest.raises(DataError, match=r"dataset\.json has no label for 0000/new\.png"):
        open_path(tmp_path / "x")


DAMAGE = {"empty.png": b"", "text.png": b"hello", "cut.png": png(images()[0])[:60]}


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = tmp_path / "damaged"
    export(ArraySet(images()), folder)
    for name, content in DAMAGE.items():
        (folder / name).write_bytes(content)
    return folder


def test_damaged_images_are_listed_before_any_work(damaged: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_path(damaged)
    text = str(caught.value)
    assert "3 of 8 images cannot be read" in text
    assert all(name in text for name in DAMAGE)
    assert "empty.png (empty file)" in text
    assert "text.png (not an image)" in text
    assert text.endswith("repair them, or leave them out with --skip-bad")
    assert "\n" not in text


def test_damaged_images_are_left_out_and_counted(damaged: Path) -> None:
    samples: Any = open_path(damaged, skip_bad=True)
    assert (len(samples), samples.skipped) == (N, 3)
    assert torch.equal(read_all(samples), images())


def test_nothing_but_damaged_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 1 images cannot be read"):
        open_path(tmp_path, skip_bad=True)


def test_a_damaged_image_in_a_zip_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", png(images()[0]))
        archive.writestr("b.png", b"")
    with pytest.raises(DataError, match=r"b\.png \(empty file\)"):
        open_path(tmp_path / "x.zip")


def test_mixed_shapes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(images()[0]))
    (tmp_path / "b.png").write_bytes(png(images(height=5)[0]))
    with pytest.raises(DataError, match=r"mixes image sizes: a\.png is 6 x 4, b\.png is 6 x 5"):
        open_path(tmp_path)


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.zip"])
@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    if name == "x.npy":
        np.save(path, images().numpy())
    else:
        export(ArraySet(images()), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"{name} is not a readable"):
        open_path(path)


def test_what_is_no_sample_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4), dtype=np.uint8))
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    for name, words in {
        "x.txt": "expected a folder",
        "x.npy": "neither",
        "nan.npy": "not finite",
        "y": "no such",
    }.items():
        with pytest.raises(DataError, match=words):
            open_path(tmp_path / name)


def test_fingerprints_follow_content_not_place(tmp_path: Path) -> None:
    export(ArraySet(images(), LABELS), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert open_path(tmp_path / "a").fingerprint == open_path(tmp_path / "b").fingerprint
    image = next((tmp_path / "b").rglob("*.png"))
    image.write_bytes(png(images()[0] ^ 1))
    assert open_path(tmp_path / "a").fingerprint != open_path(tmp_path / "b").fingerprint


def test_fingerprints_tell_sets_apart() -> None:
    whole = ArraySet(images(), LABELS)
    sets = [
        whole,
        ArraySet(images()),
        ArraySet(images(), LABELS.flip(0)),
        ArraySet(images() ^ 1, LABELS),
        ArraySet(images().transpose(2, 3).contiguous(), LABELS),
        Subset(whole, [0, 1]),
        Subset(whole, [1, 0]),
        Quantised(whole, 17),
        Joined([whole, whole], "twice"),
    ]
    assert len({samples.fingerprint for samples in sets}) == len(sets)
    assert ArraySet(images(), LABELS, "other name").fingerprint == whole.fingerprint


@pytest.mark.parametrize("levels", [2, 3, 17, 86, 255])
def test_quantised_levels_are_fixed_points(levels: int) -> None:
    every = ArraySet(torch.arange(256).to(torch.uint8).reshape(256, 1, 1, 1))
    once = Quantised(every, levels)
    values = read_all(once)
    assert len(values.unique()) == levels
    assert (int(values.min()), int(values.max())) == (0, 255)
    assert torch.equal(read_all(Quantised(once, levels)), values)
    assert int((values.int() - every.samples.int()).abs().max()) <= 127.5 / (levels - 1) + 0.5


def test_joined_sets_read_any_rows_in_order() -> None:
    parts = [ArraySet(images(n=n), torch.arange(n)) for n in (2, 3, 1)]
    joined, whole = Joined(list(parts), "all"), torch.cat([part.samples for part in parts])
    rows = [5, 0, 3, 3, 1]
    assert torch.equal(joined.read(rows), whole[rows])
    assert joined.labels is not None
    assert joined.labels.tolist() == [0, 1, 0, 1, 2, 0]
    with pytest.raises(DataError, match="cannot join samples of shapes"):
        Joined([parts[0], ArraySet(images(1))], "mixed")


def test_a_subsample_keeps_order_and_depends_on_its_seed_alone() -> None:
    whole = ArraySet(torch.arange(100.0)[:, None])
    draws = [read_all(subsample(whole, 10, seed)).flatten() for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0], draws[0].sort().values)
    assert subsample(whole, 100, 0) is whole
    with pytest.raises(DataError, match="has 100 samples; 101 are needed"):
        first(whole, 101)


@pytest.mark.parametrize(
    "samples", [torch.zeros(2, 3), torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 4, 4)]
)
def test_only_images_and_points_are_samples(samples: Tensor) -> None:
    if samples.ndim == 3:
        with pytest.raises(DataError, match="neither uint8 images"):
            ArraySet(samples)
    else:
        with pytest.raises(DataError, match="is empty"):
            ArraySet(samples[:0])
        with pytest.raises(DataError, match="2 samples but 3 labels"):
            ArraySet(samples, torch.arange(3))
