"""faiss behind the same distances: flat finds the same, ivf and hnsw say how much they find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from genplug.errors import ConfigError
from genplug.log import Silent
from genplug.testing.workplace import make_run
from genplug_distances import faiss_backend
from genplug_distances.config import CosineConfig, EuclideanConfig, PerceptualConfig
from genplug_distances.exact import Cosine, Euclidean, Squared
from genplug_distances.faiss_backend import FaissBackend, Knobs, recall
from genplug_distances.neighbours import nearest_of, nearest_others

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics_a.safetensors"
needs_faiss = pytest.mark.skipif(not faiss_backend.available(), reason="needs faiss")


class Spoken(Silent):
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def info(self, text: str) -> None:
        self.said.append(("info", text))

    def warn(self, text: str) -> None:
        self.said.append(("warn", text))


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def approximate(index: str, log: Spoken, **knobs: Any) -> FaissBackend:
    return FaissBackend(Euclidean(), Knobs(index, **knobs), log)


@needs_faiss
@pytest.mark.parametrize(
    "distance", [Euclidean(), Cosine(), Squared()], ids=["euclidean", "cosine", "squared"]
)
def test_flat_finds_the_golden_neighbours(distance: Euclidean) -> None:
    golden = load_file(GOLDEN)
    backend = FaissBackend(distance)
    d, i = backend.index(golden["in/real"]).search(golden["in/fake"], 5)
    d_true, i_true = distance.index(golden["in/real"]).search(golden["in/fake"], 5)
    assert torch.equal(i, i_true)
    assert torch.equal(d, d_true)


@needs_faiss
def test_flat_finds_rows_far_from_the_origin() -> None:
    corpus, queries = rows(300, 8, 0).double() * 1e-3 + 100, rows(40, 8, 1).double() * 1e-3 + 100
    found = FaissBackend().index(corpus).search(queries, 3)[1]
    assert torch.equal(found, Euclidean().index(corpus).search(queries, 3)[1])


@needs_faiss
@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_approximate_indexes_repeat_themselves_and_say_what_they_find(index: str) -> None:
    corpus, queries = rows(3000, 16, 0), rows(100, 16, 1)
    few, many, again = Spoken(), Spoken(), Spoken()
    poor = {"ivf": {"nlist": 64, "nprobe": 1}, "hnsw": {"m": 4, "ef_search": 1}}[index]
    i_few, i_again = (
        approximate(index, log, **poor).index(corpus).search(queries, 5)[1] for log in (few, again)
    )
    assert torch.equal(i_few, i_again)
    true = Euclidean().index(corpus).search(queries, 5)[1]
    share = recall(i_few, true)
    assert 0.05 < share < 0.9
    ((kind, text),) = few.said
    assert kind == "warn"
    assert f"finds {share:.1%} of the 5 nearest rows, measured on 100 queries; raise" in text
    rich = {"ivf": {"nlist": 20, "nprobe": 20}, "hnsw": {"ef_search": 400}}[index]
    i_many = approximate(index, many, **rich).index(corpus).search(queries, 5)[1]
    assert recall(i_many, true) > 0.99
    assert [kind for kind, _ in many.said] == ["info"]


@needs_faiss
def test_queries_in_empty_cells_are_searched_exactly() -> None:
    corpus = torch.cat([rows(3, 4, 0) + 50, rows(997, 4, 1)])
    index = approximate("ivf", Spoken(), nlist=40, nprobe=1).index(corpus)
    found = index.search(corpus[:3] + 0.01, 9)
    assert torch.equal(found[1], Euclidean().index(corpus).search(corpus[:3] + 0.01, 9)[1])


@needs_faiss
def test_a_configured_index_retrieves_while_balls_stay_exact() -> None:
    run = make_run(None)
    distance = EuclideanConfig(index="ivf", nlist=30, nprobe=1).build(run)
    corpus = rows(1500, 12, 0)
    assert torch.equal(
        nearest_others(run, distance, corpus, 2)[1], nearest_others(run, Euclidean(), corpus, 2)[1]
    )
    assert recall(*(nearest_of(run, d, rows(50, 12, 1), corpus, 3)[1] for d in (distance, Euclidean()))) < 1


@needs_faiss
@pytest.mark.skipif(not faiss_backend.available() or not faiss_backend.gpus(), reason="needs faiss on a GPU")
@pytest.mark.parametrize("index", ["flat", "ivf"])
def test_indexes_on_a_gpu_find_what_those_on_the_cpu_find(index: str) -> None:
    corpus, queries = rows(3000, 16, 0), rows(100, 16, 1)
    found = [
        FaissBackend(Euclidean(), Knobs(index, gpu=gpu)).index(corpus).search(queries, 5)[1]
        for gpu in (True, False)
    ]
    assert recall(*found) > 0.99


def test_missing_faiss_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ImportError, RuntimeError):

        def broken(error: type[Exception] = error) -> None:
            raise error

        monkeypatch.setattr(faiss_backend, "_faiss", broken)
        assert not faiss_backend.available()
        for config in (EuclideanConfig(backend="faiss"), CosineConfig(index="hnsw")):
            with pytest.raises(ConfigError, match="faiss is missing or broken here; use backend 'torch'"):
                config.build(make_run(None))
        assert isinstance(EuclideanConfig().build(make_run(None)), Euclidean)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="index 'ivf' is one of faiss"):
        EuclideanConfig(backend="torch", index="ivf").build(make_run(None))
    with pytest.raises(ConfigError, match="set 'channels'"):
        PerceptualConfig().build(make_run(None))
