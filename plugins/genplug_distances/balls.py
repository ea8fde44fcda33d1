"""Which rows of one set lie in the balls about the rows of another, exact, for many radii in one pass.

A pair whose bounds (`product`) leave no doubt is decided by them, any other by float64 differences. Both
conventions come from one pass: a closed ball holds its rim, an open one does not.

Legend: N rows x, M rows y, K radii per row, P pairs; `e` squared distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genplug_distances.blocks import Groups, Sizes, choose_frame, group_size, products
from genplug_distances.points import Points, squared_pairs
from genplug_distances.product import Block, plain_float32
from genplug_distances.search import BLOCK_BYTES


@dataclass(frozen=True)
class Counts:
    """How many points each ball holds (centres x K) and how many balls hold each point (points x K)."""

    of_balls: Tensor
    of_points: Tensor

    @classmethod
    def zeros(cls, centres: int, points: int, K: int, device: torch.device) -> Counts:
        def zeros(n: int) -> Tensor:
            return torch.zeros((n, K), dtype=torch.int64, device=device)

        return cls(zeros(centres), zeros(points))

    def add(self, i_P: Tensor, j_P: Tensor, inside_PK: Tensor) -> None:
        """Count pairs of a ball i and a point j."""
        self.of_balls.index_add_(0, i_P, inside_PK.long())
        self.of_points.index_add_(0, j_P, inside_PK.long())


@dataclass(frozen=True)
class Membership:
    """Rows y in the balls of x and rows x in the balls of y; `open` without the rim, `closed` with it."""

    x_open: Counts
    x_closed: Counts
    y_open: Counts
    y_closed: Counts


class Balls:
    """Counts points in balls about rows of given squared radii e_NK, as blocks of pairs come in."""

    def __init__(self, centres: Points, e_NK: Tensor, points: Points, scale: float) -> None:
        self.centres, self.e_NK, self.points, self.scale = centres, e_NK, points, scale
        self.radius_NK = e_NK.sqrt() * scale
        sizes = len(centres), len(points), e_NK.shape[1], centres.device
        self.open, self.closed = Counts.zeros(*sizes), Counts.zeros(*sizes)

    def see(self, block: Block) -> None:
        """Take in a block whose rows are centres and whose columns are points."""
        rows = slice(block.first[0], block.first[0] + len(block.rows))
        radius_IK = self.radius_NK[rows]
        groups = Groups.of(block.s_IJ, group_size(len(block.cols), 1))
        i_P, j_P = groups.at_least(block.least(radius_IK.amax(1)))
        low_P, high_P = block.bounds(i_P, j_P)
        i_P, j_P, radius_PK = i_P + block.first[0], j_P + block.first[1], radius_IK[i_P]
        inside_PK = high_P[:, None] < radius_PK
        doubtful = ((low_P[:, None] <= radius_PK) & ~inside_PK).any(1).nonzero()[:, 0]
        closed_PK = inside_PK.clone()
        e_Q1 = squared_pairs(self.centres, i_P[doubtful], self.points, j_P[doubtful])[:, None]
        inside_PK[doubtful] = e_Q1 < self.e_NK[i_P[doubtful]]
        closed_PK[doubtful] = e_Q1 <= self.e_NK[i_P[doubtful]]
        self.open.add(i_P, j_P, inside_PK)
        self.closed.add(i_P, j_P, closed_PK)


def membership(
    x: Points,
    x_radii_NK: Tensor,
    y: Points,
    y_radii_MK: Tensor,
    block_bytes: int = BLOCK_BYTES,
    precision: str = "auto",
) -> Membership:
    """Return who lies in whose balls; the radii are squared Euclidean ones, float64 as of `nearest_self`."""
    with plain_float32(x.device):
        frame = choose_frame(x, y, 1, precision, x_radii_NK.amax(1))
        of_x, of_y = Balls(x, x_radii_NK, y, frame.scale), Balls(y, y_radii_MK, x, frame.scale)
        for block in products(x, y, frame, Sizes.of(x.width, block_bytes)):
            of_x.see(block)
            of_y.see(block.mirrored)
            del block  # before the next one is made, which can then have its memory
    return Membership(of_x.open, of_x.closed, of_y.open, of_y.closed)
