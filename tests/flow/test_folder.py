"""A folder of generated samples as a generator: rows by seed, halves apart, and a whole run on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genplug
from genplug.errors import DataError, WeightsError
from genplug.random import seed_range
from genplug.resolving import resolve
from genplug.samplesets import ArraySet
from genplug.testing.workplace import make_run
from genplug.writers import export
from genplug_files.config import FolderConfig
from genplug_files.folder import Folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eighty generated images, blurred ones of the classes of `fake-tiles`."""
    labels = torch.arange(80) % 2
    ramp = torch.arange(4).expand(4, 4) * 50 + 30
    noise = torch.randint(0, 40, (80, 4, 4), generator=torch.Generator().manual_seed(0))
    export(
        ArraySet((torch.stack([ramp, ramp.T])[labels] + noise).to(torch.uint8)[:, None], labels),
        tmp_path / "out",
    )
    return tmp_path / "out"


@pytest.fixture
def points(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", np.arange(200, dtype=np.float32).reshape(100, 2))
    return tmp_path / "points.npy"


def folder(path: Path, **options: Any) -> Folder:
    return Folder(FolderConfig(path=str(path), **options), make_run(None))


def drawn(model: Folder, purpose: Any, n: int, block: int = 0) -> list[float]:
    return model.sample(seed_range(0, purpose, n, block))[:, 0].tolist()


def test_rows_are_distinct_and_reports_see_none_of_training(points: Path) -> None:
    model = folder(points)
    assert (model.size, model.modality, model.provides) == (50, "points", frozenset())
    training, report = (set(drawn(model, purpose, 50)) for purpose in ("pool", "report"))
    assert len(training) == len(report) == 50
    assert not training & report
    for purpose in ("train", "select"):
        assert set(drawn(model, purpose, 50)) == training
    assert set(drawn(model, "sample", 50)) == report


def test_blocks_share_no_row_where_there_are_enough(points: Path) -> None:
    blocks = [drawn(folder(points), "report", 12, block) for block in range(4)]
    assert len(set().union(*blocks)) == 48


def test_too_few_rows_are_one_line_with_the_remedy(points: Path) -> None:
    with pytest.raises(DataError, match=r"has 50 samples for this purpose; lower run\.samples"):
        drawn(folder(points), "report", 51)


def test_classes_are_kept_and_balanced(images: Path) -> None:
    model = folder(images, labels=True)
    assert model.provides == {"class-conditional"}
    assert model.size == 40
    for purpose in ("pool", "report"):
        seeds_N = seed_range(0, purpose, 40)
        cond = model.conditions(seeds_N)
        assert cond is not None
        assert cond.labels_N.bincount().tolist() == [20, 20]
        samples = model.sample(seeds_N, cond).float()
        assert len(samples.unique(dim=0)) == 40
        rising = samples[:, 0, :, 3].mean(1) > samples[:, 0, 3].mean(1)  # dark on the left, not on top
        assert torch.equal(rising, cond.labels_N == 0)
    with pytest.raises(DataError, match=r"asked for without labels; set generator\.labels=false"):
        model.sample(torch.arange(2))


def test_labels_that_are_not_there_are_refused(points: Path) -> None:
    with pytest.raises(DataError, match=r"has no labels; set generator\.labels=false"):
        folder(points, labels=True)


def test_another_folder_is_another_generator(points: Path, images: Path) -> None:
    """Its state is a digest of its contents, so that a run on changed files is not continued."""
    with pytest.raises(WeightsError, match="not of the samples in"):
        folder(points).load_state_dict(folder(images).state_dict())


def resolved(images: Path, **changes: Any) -> Any:
    settings = {
        "generator.path": str(images),
        "generator.labels": True,
        "run.samples": 30,
        "run.blocks": 1,
        "run.batch_size": 16,
        "objective.k": 3,
        "objective.steps": 4,
        "objective.train.steps": 60,
        "objective.train.batch_size": 16,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return resolve(
        generator="folder",
        objectives=["flow"],
        dataset="fake-tiles",
        extractors=["pixels"],
        evaluators=["frechet"],
        sets=list(settings.items()),
    )


def test_a_folder_is_postprocessed_from_end_to_end(images: Path, tmp_path: Path) -> None:
    """The base's samples are those of the folder; the flow moves them towards real ones."""
    metrics = genplug.run(resolved=resolved(images), out=tmp_path / "x").metrics
    assert metrics["improved"]["fd-pixels"]["value"] < metrics["base"]["fd-pixels"]["value"]
    improved = genplug.load(f"{tmp_path}/x:improved")
    assert improved.provides == {"class-conditional"}
    assert improved.size == 40


def test_more_samples_than_the_folder_has_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"60 samples asked of a generator that has 40; lower run\.samples"):
        genplug.run(resolved=resolved(images, run__samples=60), out=tmp_path / "x")
    with pytest.raises(DataError, match=r"objective\.pool = 50 asks for more than the 40"):
        genplug.run(resolved=resolved(images, objective__pool=50), out=tmp_path / "y")
