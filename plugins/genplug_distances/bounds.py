"""Feature rows, and lower bounds of their squared distances by one float32 matrix product.

For rows a, b rounded to float32,

    e = |a - b|^2  >=  L = (1 - eta) (|a|^2 + |b|^2) - 2 a.b,

where eta covers every rounding error of the product (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1).

Legend: N and M rows, D feature width, P pairs; `e` squared distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

PIECE = 2**14  # elements of float64 work at a time: they stay in the cache and in one thread
DEPTH = 1024  # products are summed in pieces of this many features, so that eta hardly grows with D


@dataclass(frozen=True)
class Points:
    """Rows x_ND in a space where the distance is Euclidean; `unit` divides each row by its norm (cosine)."""

    x_ND: Tensor
    unit: bool = False

    def __len__(self) -> int:
        return self.x_ND.shape[0]

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
        """How many float64 rows stay in the cache."""
        return max(1, PIECE // self.x_ND.shape[1])


def as_points(x_ND: Tensor, unit: bool = False) -> Points:
    """Check features (any real dtype) and wrap them; MPS has no float64, so its rows move to the CPU."""
    if x_ND.ndim != 2 or 0 in x_ND.shape:
        raise ValueError(f"features must be a non-empty N x D matrix, got shape {tuple(x_ND.shape)}")
    x_ND = x_ND.cpu() if x_ND.device.type == "mps" else x_ND
    low_D, high_D = x_ND.detach().aminmax(dim=0)
    if not bool((low_D.isfinite() & high_D.isfinite()).all()):
        raise ValueError("features contain NaN or infinity")
    if unit and not bool(x_ND.detach().any(dim=1).all()):
        raise ValueError("cosine distance is undefined for a row of zeros: drop it or use euclidean")
    return Points(x_ND, unit)


def slices(n: int, size: int, start: int = 0) -> Iterator[slice]:
    """Cut range(start, n) into consecutive slices of `size`."""
    return (slice(first, min(first + size, n)) for first in range(start, n, size))


def block_rows(width: int, block_bytes: int) -> int:
    """Return the largest b for which a b x b float32 block and two b x D float32 inputs fit."""
    inputs = 8 * width
    return max(1, int((math.sqrt(inputs**2 + 16 * block_bytes) - inputs) / 8))


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Switch off TF32, bf16 products and autocast, for which eta would not hold."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class Block:
    """Rows after centring and scaling: y_ND float32 and their squared norms in float64."""

    y_ND: Tensor
    norm_N: Tensor

    @property
    def eta(self) -> float:
        """Relative slack of L: summation of DEPTH terms, of the pieces, and eight further roundings."""
        width = self.y_ND.shape[1]
        t = (min(width, DEPTH) + 2 * math.ceil(width / DEPTH) + 16) * 2.0**-24
        return t / (1 - t)

    @property
    def low_N(self) -> Tensor:
        """(1 - eta) |y|^2, less what products of subnormal size may lose."""
        floor = 4 * self.y_ND.shape[1] * torch.finfo(torch.float32).tiny
        return ((1 - self.eta) * self.norm_N - floor).float()


@dataclass(frozen=True)
class Frame:
    """Centre (float64) and power-of-two scale under which float32 loses least and never overflows."""

    centre_D: Tensor
    scale: float

    def narrow(self, points: Points, rows: slice | Tensor) -> Block:
        x = points.take(rows)
        y_ND = torch.empty(x.x_ND.shape, dtype=torch.float32, device=x.x_ND.device)
        norm_N = torch.empty(len(x), dtype=torch.float64, device=x.x_ND.device)
        for piece in slices(len(x), x.piece):
            y_ND[piece] = (x.wide(piece) - self.centre_D) * self.scale
            norm_N[piece] = y_ND[piece].double().square().sum(1)
        return Block(y_ND, norm_N)


def make_frame(a: Points, b: Points) -> Frame:
    """Centre on the mean of b; scale both sets to coordinates below about one."""
    centre_D = torch.zeros(b.x_ND.shape[1], dtype=torch.float64, device=b.x_ND.device)
    for rows in slices(len(b), b.piece):
        centre_D += b.wide(rows).sum(0) / len(b)
    peak = 1.0 if a.unit else max(float(p.x_ND.aminmax()[i].abs()) for p in (a, b) for i in (0, 1))
    return Frame(centre_D, 2.0 ** -math.ceil(math.log2(peak)) if peak > 0 else 1.0)


def lower_bounds(a: Block, b: Block) -> Tensor:
    """Return L_NM float32 with L <= |a - b|^2 <= L + 2 eta (|a|^2 + |b|^2), in units of the frame."""
    L_NM = b.low_N.expand(len(a.y_ND), -1).clone()
    for part in slices(a.y_ND.shape[1], DEPTH):
        L_NM.addmm_(a.y_ND[:, part], b.y_ND[:, part].T, alpha=-2)
    return L_NM.add_(a.low_N[:, None])


def squared_pairs(a: Points, i_P: Tensor, b: Points, j_P: Tensor) -> Tensor:
    """Return e_P = |a_i - b_j|^2 by differences in float64."""
    pieces = zip(torch.split(i_P, a.piece), torch.split(j_P, a.piece), strict=True)
    return torch.cat([(a.wide(i) - b.wide(j)).square().sum(1) for i, j in pieces])
