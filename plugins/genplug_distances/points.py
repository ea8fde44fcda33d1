"""Feature rows, and the exact distances between pairs of them that every fast pass is held to.

Legend: N rows, D feature width, P pairs; `e` squared distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

PIECE = 2**19  # elements of float64 work at a time
LONGEST_SUM = 2**14  # features summed at a time: shorter than what is shared out among threads


@dataclass(frozen=True)
class Points:
    """Rows x_ND in a space where the distance is Euclidean; `unit` divides each row by its norm (cosine)."""

    x_ND: Tensor
    unit: bool = False

    def __len__(self) -> int:
        return self.x_ND.shape[0]

    @property
    def width(self) -> int:
        return self.x_ND.shape[1]

    @property
    def device(self) -> torch.device:
        return self.x_ND.device

    def take(self, rows: Tensor | slice) -> Points:
        """Return some rows; index_select, because x[rows] starts threads even for a handful of rows."""
        x_ND = self.x_ND[rows] if isinstance(rows, slice) else self.x_ND.index_select(0, rows)
        return Points(x_ND, self.unit)

    def wide(self, rows: Tensor | slice) -> Tensor:
        """Return the chosen rows in float64."""
        x_ND = self.take(rows).x_ND.double()
        return x_ND / x_ND.norm(dim=1, keepdim=True) if self.unit else x_ND

    @property
    def piece(self) -> int:
        """How many rows are worked on in float64 at a time."""
        return max(1, PIECE // self.width)


def as_points(x_ND: Tensor, unit: bool = False) -> Points:
    """Check features (any real dtype) and wrap them; MPS has no float64, so its rows move to the CPU."""
    if x_ND.ndim != 2 or 0 in x_ND.shape:
        raise ValueError(f"features must be a non-empty N x D matrix, got shape {tuple(x_ND.shape)}")
    x_ND = x_ND.cpu() if x_ND.device.type == "mps" else x_ND
    low, high = x_ND.detach().aminmax()
    if not bool(low.isfinite() & high.isfinite()):
        raise ValueError("features contain NaN or infinity")
    if unit and not bool(x_ND.detach().any(dim=1).all()):
        raise ValueError("cosine distance is undefined for a row of zeros: drop it or use euclidean")
    return Points(x_ND, unit)


def slices(n: int, size: int, start: int = 0) -> Iterator[slice]:
    """Cut range(start, n) into consecutive slices of `size`."""
    return (slice(first, min(first + size, n)) for first in range(start, n, size))


def squared_pairs(a: Points, i_P: Tensor, b: Points, j_P: Tensor) -> Tensor:
    """Return e_P = |a_i - b_j|^2 by differences in float64, the same for a pair whatever else is asked."""
    pieces = [(i_P[piece], j_P[piece]) for piece in slices(len(i_P), a.piece)]
    if any(points.x_ND.requires_grad for points in (a, b)):
        return torch.cat([(a.wide(i) - b.wide(j)).square().sum(1) for i, j in pieces])
    e_P = torch.empty(len(i_P), dtype=torch.float64, device=a.device)
    for place, (i, j) in zip(slices(len(i_P), a.piece), pieces, strict=True):
        e_P[place] = _sum_of_squares(a.wide(i).sub_(b.wide(j) if b.unit else b.take(j).x_ND))
    return e_P


def _sum_of_squares(w_PD: Tensor) -> Tensor:
    w_PD.square_()
    sum_P = w_PD.new_zeros(len(w_PD))
    for part in slices(w_PD.shape[1], LONGEST_SUM):
        sum_P += w_PD[:, part].sum(1)
    return sum_P
