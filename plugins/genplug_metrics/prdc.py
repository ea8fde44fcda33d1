"""Precision, recall, density and coverage from k-nearest-neighbour balls, exact, in O((N + M) k) memory.

Precision and recall: Kynkaanniemi et al. 2019; density and coverage: Naeem et al. 2020. A ball B(x_i) has
the distance of x_i to its k-th nearest *other* row as radius; it is open (`<`, prdc and dgm-eval) or closed
(`<=`, torch-fidelity and the original paper). One blocked pass over the real x generated distances serves
all k: a float32 product decides every pair whose bounds leave no doubt, float64 differences the others.

Legend: N real rows x, M generated rows y, D feature width, K values of k, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genplug_distances.bounds import (
    Block,
    Points,
    block_rows,
    lower_bounds,
    make_frame,
    plain_float32,
    slices,
    squared_pairs,
)
from genplug_distances.exact import Euclidean
from genplug_distances.search import nearest_self

EUCLIDEAN = Euclidean()


@dataclass(frozen=True)
class Prdc:
    """Membership per row for one k; the four scores are means of it.

    hits_M: how many real balls hold each generated row. recalled_N: whether a generated ball holds each real
    row. covered_N: whether each real row's own ball holds a generated row.
    """

    k: int
    hits_M: Tensor
    recalled_N: Tensor
    covered_N: Tensor

    @property
    def precision(self) -> float:
        """Share of generated rows inside some real ball, in [0, 1]."""
        return int((self.hits_M > 0).sum()) / len(self.hits_M)

    @property
    def recall(self) -> float:
        """Share of real rows inside some generated ball, in [0, 1]."""
        return int(self.recalled_N.sum()) / len(self.recalled_N)

    @property
    def density(self) -> float:
        """Mean number of real balls around a generated row, over k; >= 0, about 1 for equal distributions."""
        return int(self.hits_M.sum()) / (self.k * len(self.hits_M))

    @property
    def coverage(self) -> float:
        """Share of real balls that hold a generated row, in [0, 1]."""
        return int(self.covered_N.sum()) / len(self.covered_N)


def squared_radii(x: Points, ks: Sequence[int], block_bytes: int) -> Tensor:
    """Return e_NK, the squared distance of each row to its k-th nearest other row, for each k."""
    e_Nk, _ = nearest_self(x, max(ks), block_bytes)
    return e_Nk[:, [k - 1 for k in ks]]


def radii(feat_ND: Tensor, ks: Sequence[int], distance: Euclidean = EUCLIDEAN) -> Tensor:
    """Return r_NK in units of the distance."""
    return distance.from_squared(squared_radii(distance.points(feat_ND), ks, distance.block_bytes))


def prdc(
    real_ND: Tensor,
    fake_MD: Tensor,
    ks: Sequence[int] = (5,),
    *,
    strict: bool = True,
    distance: Euclidean = EUCLIDEAN,
) -> dict[int, Prdc]:
    """Return the four scores for every k; each k must be below both row counts."""
    x, y = distance.points(real_ND), distance.points(fake_MD.to(real_ND.device))
    r_NK, s_MK = (squared_radii(p, ks, distance.block_bytes) for p in (x, y))
    result = {k: _empty(k, x, y) for k in ks}
    frame, size = make_frame(x, y), block_rows(real_ND.shape[1], distance.block_bytes)
    with plain_float32(x.x_ND.device):
        for i in slices(len(x), size):
            a = frame.narrow(x, i)
            for j in slices(len(y), size):
                b = frame.narrow(y, j)
                pair = _PairBlock(x, i, a, y, j, b, lower_bounds(a, b), frame.scale**2)
                for c, k in enumerate(ks):
                    _add_block(result[k], pair, r_NK[i, c], s_MK[j, c], strict)
    return result


def _empty(k: int, x: Points, y: Points) -> Prdc:
    def zeros(n: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(n, dtype=dtype, device=x.x_ND.device)

    return Prdc(k, zeros(len(y), torch.int64), zeros(len(x), torch.bool), zeros(len(x), torch.bool))


@dataclass(frozen=True)
class _PairBlock:
    """Rows i of x against rows j of y (I and J of them), with lower bounds L_IJ of e."""

    x: Points
    i: slice
    a: Block
    y: Points
    j: slice
    b: Block
    L_IJ: Tensor
    unit: float  # squared distances in the frame are `unit` times the true ones


def _add_block(total: Prdc, pair: _PairBlock, r_I: Tensor, s_J: Tensor, strict: bool) -> None:
    """Add one block of pairs to the membership counts."""
    in_real_IJ = _inside(pair, r_I, strict, by_row=True)
    in_fake_IJ = _inside(pair, s_J, strict, by_row=False)
    total.hits_M[pair.j] += in_real_IJ.sum(0)
    total.covered_N[pair.i] |= in_real_IJ.any(1)
    total.recalled_N[pair.i] |= in_fake_IJ.any(1)


def _inside(pair: _PairBlock, e_ball: Tensor, strict: bool, by_row: bool) -> Tensor:
    """Return for each pair whether it lies in the ball of its row (or its column), given squared radii."""
    sure, maybe = _thresholds(e_ball * pair.unit, pair.a if by_row else pair.b)
    sure, maybe = (t[:, None] if by_row else t[None] for t in (sure, maybe))
    L_IJ = pair.L_IJ
    inside_IJ = L_IJ.lt(sure)
    i_P, j_P = (L_IJ.le(maybe) & ~inside_IJ).nonzero(as_tuple=True)
    if len(i_P):
        e_P = squared_pairs(pair.x, i_P + pair.i.start, pair.y, j_P + pair.j.start)
        ball_P = e_ball[i_P if by_row else j_P]
        inside_IJ[i_P, j_P] = e_P < ball_P if strict else e_P <= ball_P
    return inside_IJ


def _thresholds(r2_N: Tensor, centre: Block) -> tuple[Tensor, Tensor]:
    """Return float32 (sure, maybe): L < sure proves a pair inside, L > maybe proves it outside.

    With e <= L + 2 eta (|a|^2 + |b|^2) and |b|^2 <= 2 |a|^2 + 2 e, a pair of L < r^2 - eta (6 |a|^2 + 5 r^2)
    has e < r^2. One more float32 rounding is allowed for on either side, and underflow.
    """
    tiny = 16 * centre.y_ND.shape[1] * torch.finfo(torch.float32).tiny
    sure_N = r2_N - centre.eta * (6 * centre.norm_N + 5 * r2_N) - tiny
    return sure_N.float(), (r2_N * (1 + 2.0**-22) + tiny).float()


def realism(
    real_ND: Tensor, fake_MD: Tensor, k: int, distance: Euclidean = EUCLIDEAN, rows: int = 1024
) -> Tensor:
    """Return for each generated row max r_i / d_ij over the real balls of radius below the median, float64.

    Realism score of Kynkaanniemi et al. 2019; infinite for an exact copy. The median of an even count is the
    mean of two.
    """
    r_N = radii(real_ND, [k], distance)[:, 0]
    small_N = r_N < r_N.quantile(0.5)
    if not bool(small_N.any()):
        raise ValueError(f"no real ball is smaller than the median radius (k={k}): realism is undefined")
    kept_ND, r_N = real_ND[small_N], r_N[small_N]
    parts = [(r_N / distance.pairwise(y_MD, kept_ND)).amax(1) for y_MD in torch.split(fake_MD, rows)]
    return torch.cat(parts)


def expected_coverage(n: int, m: int, k: int) -> float:
    """Return the expected coverage of n real by m generated rows of one distribution (1 - 2^-k at n = m)."""
    outside = 1.0
    for i in range(1, k + 1):
        outside *= (n - i) / (m + n - i)
    return 1 - outside
