"""Distances that are Euclidean after a map of the rows, exact, at the speed of a matrix product (`search`).

Legend: N queries, M corpus rows, D feature width, C channels and P positions of a map, k neighbours; `e`
squared distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug_distances.points import Points, as_points, slices, squared_pairs
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
        queries = self.distance.points(queries_ND.to(self.corpus.device))
        options = self.distance.block_bytes, self.distance.precision
        e_Nk, i_Nk = nearest(queries, self.corpus, k, None, *options)
        return self.distance.from_squared(e_Nk), i_Nk

    def search_self(self, k: int) -> tuple[Tensor, Tensor]:
        """Search for the corpus rows themselves: the nearest *other* rows of each."""
        options = self.distance.block_bytes, self.distance.precision
        e_Nk, i_Nk = nearest_self(self.corpus, k, *options)
        return self.distance.from_squared(e_Nk), i_Nk


@dataclass(frozen=True)
class Euclidean:
    """|a - b|, in units of the features (IRS, Eq. 12).

    `block_bytes` bounds the working memory; `precision` "float32" forbids bfloat16 candidates, with which
    the results are the same.
    """

    block_bytes: int = BLOCK_BYTES
    precision: str = "auto"
    unit: ClassVar[bool] = False

    def points(self, x_ND: Tensor) -> Points:
        """Map rows into the space where the distance is Euclidean."""
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
class Squared(Euclidean):
    """|a - b|^2, in squared units of the features: the same neighbours, distances that add up."""

    def from_squared(self, e: Tensor) -> Tensor:
        return e


@dataclass(frozen=True)
class Cosine(Euclidean):
    """1 - <a, b> / (|a| |b|), in [0, 2] (IRS, Eq. 11): half the squared distance of the unit rows."""

    unit: ClassVar[bool] = True

    def from_squared(self, e: Tensor) -> Tensor:
        return e / 2


@dataclass(frozen=True)
class Perceptual(Euclidean):
    """LPIPS without learned weights (Zhang et al. 2018, Eq. 1 with w = 1), of spatial maps:

        d = 1/P sum_p |a_p / |a_p| - b_p / |b_p||^2,

    where a_p are the C channels at position p of a row of C x P numbers, channels first. A position without
    any activation stays zero. So d is a squared Euclidean distance of rows / sqrt(P).
    """

    channels: int = 1

    def points(self, x_ND: Tensor) -> Points:
        if x_ND.ndim != 2 or x_ND.shape[1] % self.channels:
            raise DataError(f"maps of {self.channels} channels do not fit into rows {tuple(x_ND.shape)}")
        x_NCP = as_points(x_ND).x_ND.unflatten(1, (self.channels, -1))
        if not x_NCP.is_floating_point():
            x_NCP = x_NCP.double()
        norm_N1P = x_NCP.detach().abs().amax(1, keepdim=True)  # first by the largest: squares do not vanish
        y_NCP = x_NCP / torch.where(norm_N1P > 0, norm_N1P, 1.0)
        norm_N1P = y_NCP.square().sum(1, keepdim=True)
        y_NCP = y_NCP / torch.where(norm_N1P > 0, norm_N1P, 1.0).sqrt()
        return Points((y_NCP / y_NCP.shape[2] ** 0.5).flatten(1))

    def from_squared(self, e: Tensor) -> Tensor:
        return e
