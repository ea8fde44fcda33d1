"""Exact nearest neighbours: candidates by float32 bounds, proven by float64 differences.

The C rows of smallest bound (`bounds`) are measured in float64 by direct differences; the k nearest of them
are proven exact when the k-th lies below every bound left out. Rows without that proof are repeated with
four times the candidates, at last with the whole corpus. So the answer depends neither on the block size nor
on the order of the rows nor on the device; equal distances are ordered by index.

Legend: N queries, M corpus rows, D feature width, C candidates, k neighbours; `e` squared distances.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genplug_distances.bounds import (
    Block,
    Frame,
    Points,
    block_rows,
    lower_bounds,
    make_frame,
    plain_float32,
    slices,
    squared_pairs,
)

BLOCK_BYTES = 2**28
SPARE = 4  # candidates beyond k


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
