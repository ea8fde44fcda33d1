"""Cut a product of two sets of rows into blocks, and find the few pairs of a block that matter.

A block is never looked at pair by pair: the maxima of groups of its columns, one cheap pass, tell in which
groups a row has something above its threshold.

Legend: I and J rows and columns of a block, G groups, P pairs, k neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from genplug_distances.points import Points, slices
from genplug_distances.product import (
    BFLOAT16,
    FLOAT32,
    Block,
    Frame,
    Rows,
    bfloat16_pays,
    make_frame,
    multiply,
)

SIDE = 2048  # rows and columns of a block
GROUP = 32  # columns of a group
PILOT = 64  # rows that are tried before the arithmetic is chosen
WORTHWHILE = 0.003  # share of pairs that may be left to float64 before bfloat16 costs more than it saves
NARROW = 256  # features from which on the product is what takes the time


@dataclass(frozen=True)
class Sizes:
    """Rows of a block and rows that are held prepared, such that the work fits into the given bytes."""

    side: int
    held: int

    @classmethod
    def of(cls, width: int, block_bytes: int) -> Sizes:
        """Give half of the bytes to the rows held and half to blocks (s, a mask, a side) of at most SIDE."""
        K = FLOAT32.width(width)
        inputs = 4 * K
        side = int((math.sqrt(inputs**2 + 16 * block_bytes) - inputs) / 16)
        side = max(1, min(SIDE, side))
        return cls(side, side * max(1, block_bytes // (8 * K * side)))


def products(left: Points, right: Points, frame: Frame, sizes: Sizes) -> Iterator[Block]:
    """Yield the blocks of all pairs; the rows held are prepared once, others once for each of these."""
    for held in slices(len(left), sizes.held):
        rows = frame.prepare(left, held, left=True)
        for j in slices(len(right), sizes.side):
            cols = frame.prepare(right, j, left=False)
            for i in slices(len(rows), sizes.side):
                yield _block(rows.part(i), cols, (held.start + i.start, j.start), frame)


def own_products(points: Points, frame: Frame, sizes: Sizes) -> Iterator[Block]:
    """Yield the blocks on and above the diagonal of all pairs of one set."""
    for held in slices(len(points), sizes.held):
        rows = frame.prepare(points, held, left=True)
        for j in slices(len(points), sizes.side, start=held.start):
            inside = slice(j.start - held.start, j.stop - held.start)
            cols = (
                frame.sided(rows.part(inside).copy(), left=False)
                if j.stop <= held.stop
                else frame.prepare(points, j, left=False)
            )
            for i in slices(min(len(rows), inside.start), sizes.side):
                yield _block(rows.part(i), cols, (held.start + i.start, j.start), frame)
            if j.stop <= held.stop:
                yield from _triangle(rows.part(inside), cols, j.start, frame)


def _triangle(rows: Rows, cols: Rows, first: int, frame: Frame) -> Iterator[Block]:
    """Yield a block on the diagonal without most of what is below it."""
    halves = list(slices(len(rows), math.ceil(len(rows) / 2)))
    for number, i in enumerate(halves):
        for j in halves[number:]:
            yield _block(rows.part(i), cols.part(j), (first + i.start, first + j.start), frame)


def _block(rows: Rows, cols: Rows, first: tuple[int, int], frame: Frame) -> Block:
    return Block(multiply(rows.u_NK, cols.u_NK), rows, cols, first, frame)


@dataclass(frozen=True)
class Groups:
    """s_IJ with each G columns apart in one group, and the maxima of the groups."""

    s_IgG: Tensor
    max_IG: Tensor

    @classmethod
    def of(cls, s_IJ: Tensor, group: int) -> Groups:
        J = s_IJ.shape[1]
        if J % group:
            s_IJ = pad(s_IJ, (0, group - J % group), value=-math.inf)
        s_IgG = s_IJ.unflatten(1, (group, -1))
        if s_IJ.stride(0) != 1:
            return cls(s_IgG, s_IgG.amax(1))
        return cls(s_IgG, s_IJ.T.unflatten(0, (group, -1)).amax(0).T.contiguous())  # along the memory

    def at_least(self, least_I: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows and columns of the pairs with s >= least_I."""
        i_H, g_H = (self.max_IG >= least_I[:, None]).nonzero(as_tuple=True)
        s_Hg = self.s_IgG[i_H, :, g_H]
        h_P, place_P = (s_Hg >= least_I[i_H, None]).nonzero(as_tuple=True)
        return i_H[h_P], place_P * self.s_IgG.shape[2] + g_H[h_P]


def group_size(columns: int, k: int) -> int:
    """Return how many columns share a maximum: fewer where k of the maxima must be told apart."""
    return max(1, min(GROUP, columns // (4 * k)))


def choose_frame(left: Points, right: Points, k: int, precision: str, d2_N: Tensor | None = None) -> Frame:
    """Return the frame, with the arithmetic that a few rows show to be the faster one.

    Decisions fall at squared distances d2_N, or else at the k-th neighbours. What is chosen changes how long
    the work takes and nothing else.
    """
    frame, forced = make_frame(left, right), precision == "bfloat16"
    unsuited = left.width < NARROW or left.device.type != "cpu"
    if precision == "float32" or (not forced and (unsuited or not bfloat16_pays())):
        return frame
    some = torch.arange(0, len(left), math.ceil(len(left) / PILOT))
    trial = next(products(left.take(some), _spread(right), frame, Sizes(SIDE, PILOT)))
    low_IJ, high_IJ = _everything(trial)
    nearest = max(1, round(k * low_IJ.shape[1] / len(right)))
    if d2_N is None:  # one more than that: it may be the row itself
        reach_I = high_IJ.kthvalue(min(nearest + 1, high_IJ.shape[1]), dim=1).values
    else:
        reach_I = d2_N[some].sqrt() * frame.scale
    narrow = replace(frame, arithmetic=BFLOAT16, T=float(reach_I.square().median()))
    low_IJ, high_IJ = _everything(next(products(left.take(some), _spread(right), narrow, Sizes(SIDE, PILOT))))
    doubtful = (low_IJ <= reach_I[:, None]) & (high_IJ >= reach_I[:, None])
    return narrow if forced or float(doubtful.double().mean()) < WORTHWHILE else frame


def _spread(points: Points) -> Points:
    """Return at most SIDE rows from all over the set."""
    return points.take(slice(None, None, math.ceil(len(points) / SIDE)))


def _everything(block: Block) -> tuple[Tensor, Tensor]:
    i_P, j_P = torch.ones(block.s_IJ.shape, dtype=torch.bool).nonzero(as_tuple=True)
    low_P, high_P = block.bounds(i_P, j_P)
    return low_P.view(block.s_IJ.shape), high_P.view(block.s_IJ.shape)
