"""The distances of `exact` with the indexes of faiss as the source of candidates.

faiss finds k + SPARE candidates in float32, which are then measured in float64 as in `exact`. Unlike there,
nothing proves that no row was missed: by `flat` where more than SPARE rows are closer together than float32
can tell, by `ivf` and `hnsw` (Malkov and Yashunin 2018) anywhere. How much these miss is measured against the
exact search on some of the queries, and said. Equal rows and options give equal indexes: the cells of ivf are
trained with a fixed seed, the graph of hnsw is built by one thread. faiss is imported on use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from genplug.log import Log, Silent
from genplug_distances.exact import Euclidean
from genplug_distances.points import Points, slices, squared_pairs

SPARE = 4  # candidates beyond k
JUDGED = 200  # queries on which an approximate search is judged
GOOD = 0.95  # recall below which its user is warned
SEED = 1234
PIECE = 2**14  # rows that are handed over at a time
PER_CELL = 39  # rows that faiss wants to see for each cell that it trains


def available() -> bool:
    """Tell whether faiss imports; faiss-gpu without its CUDA wheels raises RuntimeError, not ImportError."""
    try:
        _faiss()
    except (ImportError, RuntimeError):
        return False
    return True


def _faiss() -> ModuleType:
    import faiss

    module: ModuleType = faiss
    return module


@dataclass(frozen=True)
class Knobs:
    """The index and its options (see `config`)."""

    index: str = "flat"
    nlist: int = 0
    nprobe: int = 32
    m: int = 32
    ef_search: int = 128
    gpu: bool = True


@dataclass(frozen=True)
class FaissBackend:
    """A distance of `exact` whose index is searched by faiss; it stays available as `exact`."""

    exact: Euclidean = field(default_factory=Euclidean)
    knobs: Knobs = field(default_factory=Knobs)
    log: Log = field(default_factory=Silent, repr=False, compare=False)

    def pairwise(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        return self.exact.pairwise(a_ND, b_MD)

    def index(self, corpus_MD: Tensor) -> FaissIndex:
        return FaissIndex(self, corpus_MD)


class FaissIndex:
    """Index of corpus_MD; distances are float64 and ascending, ties by lowest index, on the CPU."""

    def __init__(self, backend: FaissBackend, corpus_MD: Tensor) -> None:
        self.backend, self.rows = backend, corpus_MD.cpu()
        self.corpus = backend.exact.points(self.rows)
        self.centre_D = self.corpus.wide(slice(None, None, math.ceil(len(self.corpus) / 2048))).mean(0)
        self.index = self._build()
        self.judged = backend.knobs.index == "flat"

    def search(self, queries_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return d_Nk and i_Nk of the k nearest corpus rows that faiss finds for each query."""
        M = len(self.corpus)
        if not 1 <= k <= M:
            raise ValueError(f"k={k} neighbours asked of {M} rows: choose 1 <= k <= {M}")
        queries = self.backend.exact.points(queries_ND.cpu())
        parts = [self._search(queries.take(rows), k) for rows in slices(len(queries), PIECE)]
        d_Nk, i_Nk = (torch.cat(part) for part in zip(*parts, strict=True))
        self._judge(queries_ND, i_Nk)
        return d_Nk, i_Nk

    def _search(self, queries: Points, k: int) -> tuple[Tensor, Tensor]:
        _, found = self.index.search(self._narrow(queries), min(k + SPARE, len(self.corpus)))
        j_NC = torch.as_tensor(found).sort(dim=1).values
        i_P = torch.arange(len(queries)).repeat_interleave(j_NC.shape[1])
        e_NC = squared_pairs(queries, i_P, self.corpus, j_NC.flatten().clamp_min(0)).view(j_NC.shape)
        e_NC[j_NC < 0] = math.inf  # faiss found fewer
        order = e_NC.argsort(dim=1, stable=True)[:, :k]
        d_Nk, i_Nk = self.backend.exact.from_squared(e_NC.gather(1, order)), j_NC.gather(1, order)
        short = (i_Nk < 0).any(1).nonzero()[:, 0]
        if len(short):
            index = self.backend.exact.index(self.rows)
            d_Nk[short], i_Nk[short] = index.search(queries.x_ND[short], k)
        return d_Nk, i_Nk

    def _judge(self, queries_ND: Tensor, i_Nk: Tensor) -> None:
        """Say once per index which share of the true neighbours it finds."""
        if self.judged:
            return
        self.judged, knobs = True, self.backend.knobs
        some = torch.arange(0, len(i_Nk), math.ceil(len(i_Nk) / JUDGED))
        exact = self.backend.exact.index(self.rows)
        found = recall(i_Nk[some], exact.search(queries_ND[some], i_Nk.shape[1])[1])
        speak = self.backend.log.info if found >= GOOD else self.backend.log.warn
        more = {"ivf": f"nprobe {knobs.nprobe}", "hnsw": f"ef_search {knobs.ef_search}"}[knobs.index]
        advice = "" if found >= GOOD else f"; raise {more}, or use index flat"
        speak(
            f"approximate search ({knobs.index}, {more}) finds {found:.1%} of the {i_Nk.shape[1]} nearest "
            f"rows, measured on {len(some)} queries{advice}"
        )

    def _narrow(self, points: Points) -> Any:
        return (points.wide(slice(None)) - self.centre_D).float().numpy()

    def _build(self) -> Any:
        faiss, knobs, width = _faiss(), self.backend.knobs, self.corpus.width
        index = faiss.IndexFlatL2(width)
        if knobs.index == "hnsw":
            index = faiss.IndexHNSWFlat(width, knobs.m)
            index.hnsw.efSearch = knobs.ef_search
        elif knobs.index == "ivf":
            index = faiss.IndexIVFFlat(index, width, self._cells())
            index.cp.seed, index.nprobe = SEED, knobs.nprobe
        if knobs.gpu and knobs.index != "hnsw" and gpus():
            index = faiss.index_cpu_to_all_gpus(index)
        with _threads(faiss, 1 if knobs.index == "hnsw" else 0):
            if not index.is_trained:
                index.train(self._training_rows())
            for rows in slices(len(self.corpus), PIECE):
                index.add(self._narrow(self.corpus.take(rows)))
        return index

    def _cells(self) -> int:
        rows = len(self.corpus)
        wanted = self.backend.knobs.nlist or round(4 * math.sqrt(rows))
        return max(1, min(wanted, rows if self.backend.knobs.nlist else rows // PER_CELL))

    def _training_rows(self) -> Any:
        """Return as many rows, from all over the corpus, as faiss would draw for the cells."""
        step = max(1, len(self.corpus) // (256 * self._cells()))
        return self._narrow(self.corpus.take(slice(None, None, step)))


def recall(found_Nk: Tensor, true_Nk: Tensor) -> float:
    """Return the share of the true neighbours that were found."""
    return float((found_Nk[:, :, None] == true_Nk[:, None]).any(1).double().mean())


def gpus() -> int:
    """Return how many GPUs faiss can use; its CPU form has no such function on some systems."""
    count = getattr(_faiss(), "get_num_gpus", int)
    return int(count())


@contextmanager
def _threads(faiss: ModuleType, count: int) -> Iterator[None]:
    """Let faiss use `count` threads, 0 for as many as it does."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
