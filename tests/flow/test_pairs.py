"""Pairs: the neighbours are the nearest ones, of the class, drawn equally often; what has none is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.config import Component
from genplug.errors import ConfigError, DataError
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.samplesets import ArraySet
from genplug.testing.workplace import make_run
from genplug.training import TensorRows
from genplug_flow.pairs import AnyRow, Classes, Neighbours, PairRows, Search
from genplug_flow.space import Space


class BlackBox:
    """Points without a network."""

    modality, size, provides = "points", None, frozenset[str]()

    def sample(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        return NoiseSource(seeds_N).normal((len(seeds_N), 2), "point")

    def conditions(self, seeds_N: Tensor, policy: str = "balanced") -> Condition | None:
        return None

    def state_dict(self) -> dict[str, Tensor]:
        return {}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, batch=16)


def rows(count: int, seed: int, labels: bool = True) -> tuple[Tensor, Tensor | None]:
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(count) % 3 if labels else None


def search(run: Run, k: int = 4, within: bool | None = None, labels: bool = True, **options: Any) -> Any:
    pool, real = TensorRows(*rows(50, 0, labels)), ArraySet(*rows(90, 1, labels), "real")
    classes = Classes.of(pool.labels, len(pool), real, within)
    distance = Component(name=options.get("distance", "euclidean"))
    how = Search(options.get("extractor", "pixels"), distance, k)
    return pool, real, how.neighbours(run, pool, Space(BlackBox()), real, classes)


@pytest.mark.parametrize(("within", "labels"), [(None, True), (True, True), (False, True), (None, False)])
def test_neighbours_are_the_nearest_real_rows_of_the_class(
    run: Run, within: bool | None, labels: bool
) -> None:
    pool, real, found = search(run, within=within, labels=labels)
    for number, x in enumerate(pool.x):
        d_M = (real.samples - x).norm(dim=1)
        if labels and within is not False:
            d_M[real.labels != pool.labels[number]] = torch.inf
        expected = d_M.argsort()[:4]
        assert torch.equal(found.table_Nk[number], expected)
        assert torch.allclose(found.distances_Nk[number], d_M[expected], atol=1e-6)


def test_features_rank_and_not_the_samples(run: Run) -> None:
    pool, real, found = search(run, extractor="fake-mean", labels=False)
    d_NM = (pool.x.mean(1)[:, None] - real.samples.mean(1)).abs()
    assert torch.equal(found.table_Nk[:, 0], d_NM.argmin(1))


def test_the_neighbours_of_a_row_are_drawn_equally_often() -> None:
    table_Nk = torch.tensor([[7, 8, 9], [4, 5, -1]])
    targets = Neighbours(table_Nk, torch.zeros(2, 3))
    count = 30_000
    for row, among in ((0, [7, 8, 9]), (1, [4, 5])):
        drawn = targets.draw(torch.full((count,), row), NoiseSource(torch.arange(count)))
        shares = drawn.bincount(minlength=10)[among] / count
        assert torch.allclose(shares, torch.full_like(shares, 1 / len(among)), atol=0.01)
        assert set(drawn.tolist()) == set(among)


def test_the_control_draws_any_real_row_of_the_class() -> None:
    pool, real = TensorRows(*rows(50, 0)), ArraySet(*rows(90, 1), "real")
    targets = AnyRow(Classes.of(pool.labels, len(pool), real, None))
    row = torch.full((30_000,), 4)
    shares = targets.draw(row, NoiseSource(torch.arange(30_000))).bincount(minlength=90) / 30_000
    assert torch.allclose(shares[real.labels == 1], torch.tensor(1 / 30), atol=0.006)
    assert float(shares[real.labels != 1].sum()) == 0


def test_a_batch_is_generated_rows_and_a_neighbour_of_each(run: Run) -> None:
    pool, real, found = search(run)
    pairs = PairRows(pool, real, Space(BlackBox()), found)
    batch, cond = pairs.batch(torch.tensor([3, 1]), NoiseSource(torch.tensor([5, 6])))
    assert torch.equal(batch[:, 0], pool.x[[3, 1]])
    assert cond is not None
    assert torch.equal(cond.labels_N, pool.labels[[3, 1]])
    for row, y in zip((3, 1), batch[:, 1], strict=True):
        assert bool((real.samples[found.table_Nk[row]] == y).all(1).any())


def test_a_class_with_fewer_rows_gives_those_that_it_has(run: Run) -> None:
    *_, found = search(run, k=40)
    assert bool((found.table_Nk[:, 30:] == -1).all())
    assert bool((found.table_Nk[:, :30] >= 0).all())


def test_an_empty_class_is_named() -> None:
    real = ArraySet(torch.zeros(4, 2), torch.tensor([0, 0, 2, 2]), "real")
    with pytest.raises(DataError, match="real has no sample of class 1, which is generated") as told:
        Classes.of(torch.tensor([0, 1, 2]), 3, real, None)
    assert "objective.within_class=false" in str(told.value)
    assert Classes.of(torch.tensor([0, 1, 2]), 3, real, False).few(5) == "there are 4"


def test_classes_that_are_asked_for_need_labels() -> None:
    real = ArraySet(torch.zeros(4, 2), None, "real")
    with pytest.raises(ConfigError, match="within_class needs labels; real has none"):
        Classes.of(torch.tensor([0, 1]), 2, real, True)


def test_features_of_another_width_are_refused_in_one_line(run: Run) -> None:
    pool, real = TensorRows(torch.randn(8, 2)), ArraySet(torch.randn(8, 3), None, "real")
    how = Search("pixels", Component(name="euclidean"), 2)
    with pytest.raises(DataError, match="pixels gives 2 features of a generated sample and 3 of one of real"):
        how.neighbours(run, pool, Space(BlackBox()), real, Classes.of(None, 8, real, None))


def test_little_to_improve_is_said(run: Run) -> None:
    said: list[str] = []
    run.log.warn = said.append  # type: ignore[method-assign]
    real = ArraySet(torch.randn(60, 2), None, "real")
    how = Search("pixels", Component(name="euclidean"), 2)
    near = TensorRows(real.samples + 1e-4)
    how.neighbours(run, near, Space(BlackBox()), real, Classes.of(None, 60, real, None))
    assert len(said) == 1
    assert "as near to real ones" in said[0]
