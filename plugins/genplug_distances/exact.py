"""Exact Euclidean and cosine neighbours at the speed of a float32 matrix product.

Squared distances are first bounded from below by one float32 product. For rows a, b rounded to float32,

    e = |a - b|^2  >=  L = (1 - eta) (|a|^2 + |b|^2) - 2 a.b,

where eta covers every rounding error of the product (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1). The C rows of smallest L are then measured in float64 by direct differences; the k
nearest of them are proven exact when the k-th lies below every bound left out. Rows without that proof are
repeated with four times the candidates, at last with the whole corpus. So the answer depends neither on the
block size nor on the order of the rows nor on the device; equal distances are ordered by index.

Legend: N queries, M corpus rows, D feature width, C candidates, P pairs, k neighbours; `e` squared distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

BLOCK_BYTES = 2**28
PIECE = 2**14  # elements of float64 work at a time: they stay in the cache and in one thread
DEPTH = 1024  # products are summed in pieces of this many features, so that eta hardly grows with D
SPARE = 4  # candidates beyond k


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


# --- float32 bounds -------------------------------------------------------------------------------------


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


# --- search ---------------------------------------------------------------------------------------------


def _merge(L_NC: Tensor, j_NC: Tensor, L_NM: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Keep the C smallest of the candidates so far and of a new block of columns."""
    C = L_NC.shape[1]
    L_new, j_new = L_NM.topk(min(C, L_NM.shape[1]), dim=1, largest=False, sorted=False)
    L_all, j_all = torch.cat([L_NC, L_new], 1), torch.cat([j_NC, j_new + first], 1)
    L_NC, place = L_all.topk(C, dim=1, largest=False, sorted=False)
    return L_NC, j_all.gather(1, place)


def _no_candidates(N: int, C: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.full((N, C), math.inf, device=device), torch.zeros((N, C), dtype=torch.int64, device=device)


def _candidates(
    a: Block, corpus: Points, frame: Frame, C: int, own_N: Tensor | None, size: int
) -> tuple[Tensor, Tensor]:
    """Return bounds and indices of the C corpus rows of smallest bound; `own_N` is never among them."""
    L_NC, j_NC = _no_candidates(len(a.y_ND), C, a.y_ND.device)
    for cols in slices(len(corpus), size):
        L_NM = lower_bounds(a, frame.narrow(corpus, cols))
        if own_N is not None:
            row_P = ((own_N >= cols.start) & (own_N < cols.stop)).nonzero()[:, 0]
            L_NM[row_P, own_N[row_P] - cols.start] = math.inf
        L_NC, j_NC = _merge(L_NC, j_NC, L_NM, cols.start)
    return L_NC, j_NC


def _refine(
    queries: Points, rows_N: Tensor, corpus: Points, L_NC: Tensor, j_NC: Tensor, k: int, frame: Frame
) -> tuple[Tensor, Tensor, Tensor]:
    """Measure the candidates; return e_Nk, i_Nk and whether the bounds prove each row complete."""
    j_NC, order = j_NC.sort(dim=1)
    L_NC = L_NC.gather(1, order)
    i_P = rows_N.repeat_interleave(L_NC.shape[1])
    e_NC = squared_pairs(queries, i_P, corpus, j_NC.flatten()).view(L_NC.shape)
    e_NC[L_NC.isinf()] = math.inf
    order = e_NC.argsort(dim=1, stable=True)[:, :k]
    e_Nk = e_NC.gather(1, order)
    last_N = e_Nk[:, -1] * frame.scale**2
    proven_N = last_N < L_NC.amax(1)
    return e_Nk, j_NC.gather(1, order), proven_N


def nearest(
    queries: Points, corpus: Points, k: int, own_N: Tensor | None = None, block_bytes: int = BLOCK_BYTES
) -> tuple[Tensor, Tensor]:
    """Return e_Nk (ascending, float64) and i_Nk; `own_N` names for each query one corpus row to leave out."""
    available = len(corpus) - (own_N is not None)
    if not 1 <= k <= available:
        raise ValueError(f"k={k} neighbours asked of {available} rows: choose 1 <= k <= {available}")
    N, device = len(queries), corpus.x_ND.device
    e_Nk = torch.empty((N, k), dtype=torch.float64, device=device)
    i_Nk = torch.empty((N, k), dtype=torch.int64, device=device)
    todo_N, C = torch.arange(N, device=device), min(k + SPARE, len(corpus))
    frame = make_frame(queries, corpus)
    size = block_rows(corpus.x_ND.shape[1], block_bytes)
    with plain_float32(device):
        while len(todo_N):
            failed = []
            for rows in torch.split(todo_N, max(1, min(size, block_bytes // (64 * C)))):
                own = None if own_N is None else own_N[rows]
                L_NC, j_NC = _candidates(frame.narrow(queries, rows), corpus, frame, C, own, size)
                e_Nk[rows], i_Nk[rows], proven = _refine(queries, rows, corpus, L_NC, j_NC, k, frame)
                failed.append(rows[~proven])
            todo_N = torch.cat(failed) if len(corpus) > C else todo_N[:0]
            C = min(4 * C, len(corpus))
    return e_Nk, i_Nk


def nearest_self(points: Points, k: int, block_bytes: int = BLOCK_BYTES) -> tuple[Tensor, Tensor]:
    """Return e_Nk, i_Nk of each row to the *other* rows; each block of bounds serves its rows and columns."""
    N, device = len(points), points.x_ND.device
    if not 1 <= k < N:
        raise ValueError(f"k={k} neighbours asked of {N - 1} other rows: choose 1 <= k <= {N - 1}")
    frame, size = make_frame(points, points), block_rows(points.x_ND.shape[1], block_bytes)
    L_NC, j_NC = _no_candidates(N, min(k + SPARE, N), device)
    with plain_float32(device):
        for i in slices(N, size):
            a = frame.narrow(points, i)
            own_IJ = lower_bounds(a, a).fill_diagonal_(math.inf)
            L_NC[i], j_NC[i] = _merge(L_NC[i], j_NC[i], own_IJ, i.start)
            for j in slices(N, size, start=i.stop):
                L_IJ = lower_bounds(a, frame.narrow(points, j))
                L_NC[i], j_NC[i] = _merge(L_NC[i], j_NC[i], L_IJ, j.start)
                L_NC[j], j_NC[j] = _merge(L_NC[j], j_NC[j], L_IJ.T, i.start)
        e_Nk, i_Nk, proven_N = _refine(points, torch.arange(N, device=device), points, L_NC, j_NC, k, frame)
    failed = (~proven_N).nonzero()[:, 0]
    if len(failed):
        e_Nk[failed], i_Nk[failed] = nearest(points.take(failed), points, k, failed, block_bytes)
    return e_Nk, i_Nk


# --- distances ------------------------------------------------------------------------------------------


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
