"""Exact Euclidean and cosine distances at the speed of a float32 matrix product (`bounds`, `search`).

Legend: N queries, M corpus rows, D feature width, P pairs, k neighbours; `e` squared distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genplug_distances.bounds import Points, as_points, slices, squared_pairs
from genplug_distances.search import BLOCK_BYTES, nearest, nearest_self


def _squared_block(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Return e_NM in float64; close pairs, where the product cancels, by differences. Differentiable."""
    norm_NM = a_ND.square().sum(1)[:, None] + b_MD.square().sum(1)
    e_NM = norm_NM - 2 * a_ND @ b_MD.T
    i_P, j_P = (e_NM < 1e-3 * norm_NM).nonzero(as_tuple=True)
    if not len(i_P):
        return e_NM
    return e_NM.index_put((i_P, j_P), squared_pairs(Points(a_ND), i_P, Points(b_MD), j_P))


class ExactIndex:
    """Search in corpus_MD; distances are float64 and ascending, ties by lowest index."""

    def __init__(self, distance: Euclidean, corpus_MD: Tensor) -> None:
        self.distance, self.corpus = distance, distance.points(corpus_MD)

    def search(self, queries_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return d_Nk and i_Nk of the k nearest corpus rows of each query."""
        queries = self.distance.points(queries_ND.to(self.corpus.x_ND.device))
        e_Nk, i_Nk = nearest(queries, self.corpus, k, block_bytes=self.distance.block_bytes)
        return self.distance.from_squared(e_Nk), i_Nk

    def search_self(self, k: int, exclude_self: bool = True) -> tuple[Tensor, Tensor]:
        """Search for the corpus rows themselves; without `exclude_self` each row may find itself."""
        if not exclude_self:
            return self.search(self.corpus.x_ND, k)
        e_Mk, i_Mk = nearest_self(self.corpus, k, self.distance.block_bytes)
        return self.distance.from_squared(e_Mk), i_Mk


@dataclass(frozen=True)
class Euclidean:
    """|a - b|, in units of the features (IRS, Eq. 12). `block_bytes` bounds the working memory."""

    block_bytes: int = BLOCK_BYTES
    unit: ClassVar[bool] = False

    def points(self, x_ND: Tensor) -> Points:
        return as_points(x_ND, self.unit)

    def from_squared(self, e: Tensor) -> Tensor:
        """Turn squared Euclidean into this distance; the gradient at zero is zero."""
        positive = e > 0
        return torch.where(positive, e, 1.0).sqrt() * positive

    def pairwise(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        """Return d_NM in float64, differentiable; zero exactly where rows are equal."""
        a, b = self.points(a_ND), self.points(b_MD)
        everything = slice(None)
        b_wide = b.wide(everything)
        centre_D = b_wide.detach().mean(0)
        size = max(1, self.block_bytes // (32 * len(b) + 24 * b_wide.shape[1]))
        parts = [_squared_block(a.wide(rows) - centre_D, b_wide - centre_D) for rows in slices(len(a), size)]
        return self.from_squared(torch.cat(parts))

    def index(self, corpus_MD: Tensor) -> ExactIndex:
        return ExactIndex(self, corpus_MD)


@dataclass(frozen=True)
class Cosine(Euclidean):
    """1 - <a, b> / (|a| |b|), in [0, 2] (IRS, Eq. 11): half the squared distance of the unit rows."""

    unit: ClassVar[bool] = True

    def from_squared(self, e: Tensor) -> Tensor:
        return e / 2
