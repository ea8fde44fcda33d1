"""Exact nearest neighbours: pairs that bounds cannot rule out, decided by float64 differences.

Each row keeps the k smallest upper bounds seen (of group maxima, so of k different rows); a pair whose lower
bound exceeds the largest of these is no neighbour. The few others are measured in float64. So the answer
depends neither on the arithmetic nor on the size of blocks nor on the order of the rows nor on the device;
equal distances are ordered by index.

Legend: N queries, M corpus rows, D feature width, k neighbours, P pairs; `e` squared distances.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genplug_distances.blocks import Groups, Sizes, choose_frame, group_size, own_products, products
from genplug_distances.points import Points, squared_pairs
from genplug_distances.product import Block, plain_float32

BLOCK_BYTES = 2**28
MANY = 2**20  # candidates that are held before they are measured


class Nearest:
    """The k nearest corpus rows of each query, as blocks of pairs come in."""

    def __init__(self, queries: Points, corpus: Points, k: int, scale: float) -> None:
        N, device = len(queries), queries.device
        self.queries, self.corpus, self.scale = queries, corpus, scale
        self.bound_Nk = torch.full((N, k), math.inf, dtype=torch.float64, device=device)
        self.e_Nk = self.bound_Nk.clone()
        self.i_Nk = torch.zeros((N, k), dtype=torch.int64, device=device)
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []  # query, corpus row, lower bound
        self.held = 0

    def see(self, block: Block) -> None:
        """Take in a block whose rows are queries and whose columns are corpus rows."""
        rows = slice(block.first[0], block.first[0] + len(block.rows))
        groups = Groups.of(block.s_IJ, group_size(len(block.cols), self.bound_Nk.shape[1]))
        reach_I = self._lower_bounds(block, groups, rows)
        i_P, j_P = groups.at_least(block.least(reach_I))
        low_P = block.bounds(i_P, j_P)[0]
        near = (low_P <= reach_I[i_P]).nonzero()[:, 0]
        self.found.append((i_P[near] + block.first[0], j_P[near] + block.first[1], low_P[near]))
        self.held += len(near)
        if self.held > MANY:
            self.measure()

    def _lower_bounds(self, block: Block, groups: Groups, rows: slice) -> Tensor:
        """Let the maxima of groups lower the k upper bounds of the rows; return the largest of each row."""
        bound_Ik = self.bound_Nk[rows]
        better = (groups.max_IG.amax(1) >= block.least(bound_Ik[:, -1])).nonzero()[:, 0]
        k, G = bound_Ik.shape[1], groups.max_IG.shape[1]
        best_Bk = groups.max_IG[better].topk(min(k, G), dim=1, sorted=False).values
        both = torch.cat([bound_Ik[better], block.farthest(best_Bk, better)], 1)
        bound_Ik[better] = both.topk(k, dim=1, largest=False).values
        return bound_Ik[:, -1]

    def measure(self) -> None:
        """Measure the candidates that are left and keep the k nearest of each query.

        The k of smallest lower bound come first: what they measure rules out most of the others.
        """
        i_P, j_P, low_P = (torch.cat(parts) for parts in zip(*self.found, strict=True))
        self.found, self.held = [], 0
        left = (low_P <= self.bound_Nk[i_P, -1]).nonzero()[:, 0]
        order, rank_P = _ranked(i_P[left], low_P[left])
        i_P, j_P, low_P = i_P[left][order], j_P[left][order], low_P[left][order]
        first = rank_P < self.bound_Nk.shape[1]
        self._settle(i_P[first], j_P[first])
        others = ~first & (low_P <= self.bound_Nk[i_P, -1])
        self._settle(i_P[others], j_P[others])

    def _settle(self, i_P: Tensor, j_P: Tensor) -> None:
        """Measure some pairs; let them lower the bounds of their queries."""
        e_P, k = squared_pairs(self.queries, i_P, self.corpus, j_P), self.e_Nk.shape[1]
        touched = torch.unique(i_P)
        i_P = torch.cat([touched.repeat_interleave(k), i_P])
        e_P, j_P = (
            torch.cat([kept[touched].flatten(), new]) for kept, new in ((self.e_Nk, e_P), (self.i_Nk, j_P))
        )
        order, rank_P = _ranked(i_P, e_P, j_P)
        nearest = order[rank_P < k]
        place = i_P[nearest], rank_P[rank_P < k]
        self.e_Nk[place], self.i_Nk[place] = e_P[nearest], j_P[nearest]
        exact_Nk = self.e_Nk[touched].sqrt() * (self.scale * (1 + 2.0**-50))
        self.bound_Nk[touched] = torch.minimum(exact_Nk, self.bound_Nk[touched])

    def finish(self) -> tuple[Tensor, Tensor]:
        """Return e_Nk, ascending, and i_Nk."""
        if self.found:
            self.measure()
        return self.e_Nk, self.i_Nk


def _ranked(i_P: Tensor, *keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return an order by query, then by the keys, and the rank of each pair among those of its query."""
    order = torch.arange(len(i_P), device=i_P.device)
    for key in (*reversed(keys), i_P):
        order = order[key[order].argsort(stable=True)]
    i_P, place_P = i_P[order], torch.arange(len(i_P), device=i_P.device)
    starts = torch.ones_like(i_P, dtype=torch.bool)
    starts[1:] = i_P[1:] != i_P[:-1]
    return order, place_P - torch.where(starts, place_P, 0).cummax(0).values


def nearest(
    queries: Points,
    corpus: Points,
    k: int,
    own: int | None = None,
    block_bytes: int = BLOCK_BYTES,
    precision: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return e_Nk (ascending, float64) and i_Nk; query i does not find the corpus row i + own."""
    available = len(corpus) - (own is not None)
    if not 1 <= k <= available:
        raise ValueError(f"k={k} neighbours asked of {available} rows: choose 1 <= k <= {available}")
    with plain_float32(corpus.device):
        frame = choose_frame(queries, corpus, k, precision)
        result = Nearest(queries, corpus, k, frame.scale)
        for block in products(queries, corpus, frame, Sizes.of(corpus.width, block_bytes)):
            if own is not None:
                block.s_IJ.diagonal(block.first[0] + own - block.first[1]).fill_(-math.inf)
            result.see(block)
            del block  # before the next one is made, which can then have its memory
        return result.finish()


def nearest_self(
    points: Points, k: int, block_bytes: int = BLOCK_BYTES, precision: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Return e_Nk, i_Nk of each row to the *other* rows; each block serves its rows and its columns."""
    N = len(points)
    if not 1 <= k < N:
        raise ValueError(f"k={k} neighbours asked of {N - 1} other rows: choose 1 <= k <= {N - 1}")
    with plain_float32(points.device):
        frame = choose_frame(points, points, k, precision)
        result = Nearest(points, points, k, frame.scale)
        for block in own_products(points, frame, Sizes.of(points.width, block_bytes)):
            if block.first[0] == block.first[1]:
                block.s_IJ.fill_diagonal_(-math.inf)
                result.see(block)
            else:
                result.see(block)
                result.see(block.mirrored)
            del block
        return result.finish()
