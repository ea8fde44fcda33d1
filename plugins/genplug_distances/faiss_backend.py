"""The search of `exact` with faiss flat indexes as the source of candidates.

faiss finds k + SPARE candidates in float32 (IndexFlatL2; for cosine IndexFlatIP on unit rows), which are then
measured in float64 as in `exact`. Unlike there, nothing proves that no row was missed: where more than SPARE
rows are closer together than float32 can tell, the answer may differ. faiss is imported on use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from genplug_distances.bounds import Points, squared_pairs
from genplug_distances.exact import Euclidean
from genplug_distances.search import SPARE


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


class FaissIndex:
    """Flat index of corpus_MD in main memory; distances are float64 and ascending, ties by lowest index."""

    def __init__(self, distance: Euclidean, corpus_MD: Tensor) -> None:
        self.distance, self.corpus = distance, distance.points(corpus_MD.cpu())
        faiss, width = _faiss(), corpus_MD.shape[1]
        self.flat: Any = faiss.IndexFlatIP(width) if distance.unit else faiss.IndexFlatL2(width)
        self.flat.add(_float32(self.corpus).numpy())

    def search(self, queries_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return d_Nk and i_Nk of the k nearest corpus rows of each query, on the CPU."""
        M = len(self.corpus)
        if not 1 <= k <= M:
            raise ValueError(f"k={k} neighbours asked of {M} rows: choose 1 <= k <= {M}")
        queries = self.distance.points(queries_ND.cpu())
        _, found = self.flat.search(_float32(queries).numpy(), min(k + SPARE, M))
        j_NC = torch.as_tensor(found).sort(dim=1).values
        i_P = torch.arange(len(queries)).repeat_interleave(j_NC.shape[1])
        e_NC = squared_pairs(queries, i_P, self.corpus, j_NC.flatten()).view(j_NC.shape)
        order = e_NC.argsort(dim=1, stable=True)[:, :k]
        return self.distance.from_squared(e_NC.gather(1, order)), j_NC.gather(1, order)


def _float32(points: Points) -> Tensor:
    x_ND = points.x_ND.detach().float()
    return (torch.nn.functional.normalize(x_ND) if points.unit else x_ND).contiguous()


@dataclass(frozen=True)
class FaissBackend:
    """A distance of `exact` whose index is searched by faiss."""

    distance: Euclidean = field(default_factory=Euclidean)

    def pairwise(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        return self.distance.pairwise(a_ND, b_MD)

    def index(self, corpus_MD: Tensor) -> FaissIndex:
        return FaissIndex(self.distance, corpus_MD)
