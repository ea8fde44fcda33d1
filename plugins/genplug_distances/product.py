"""Distances of many pairs at the speed of a matrix product, each with a certified error.

Rows y (centred, scaled by a power of two: a `Frame`) are rounded to the numbers z of an `Arithmetic`, with
|y - z| <= delta. With h = |z|^2 / 2 the product of the widened rows

    left = [z, 1, T/2 - h],    right = [z, -h, 1]        (numbers beside z as a sum of few that have no error)

is s = (T - |z_a - z_b|^2) / 2. Whatever the order of its sum in float32, its error is at most

    gamma_K (3/2 |z_a|^2 + 3/2 |z_b|^2 + T/2),  gamma_K = K u / (1 - K u),  u = 2^-24       (Higham 2002, 3.1)

with that of the norms, which are such sums too. Where the result is stored in bfloat16 it is 2^-8 |s| more,
which is nothing for distances near sqrt(T): T is chosen where decisions fall. By the triangle inequality
|d - |z_a - z_b|| <= delta_a + delta_b. So both arithmetics give true bounds, more or less narrow ones, and
what is decided with their help is the same.

Legend: N rows, I and J rows and columns of a block, K widened feature width, P pairs; `d` distances in the
frame, `e` their squares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import linear

from genplug_distances.points import Points, slices

TINY = torch.finfo(torch.float32).tiny
ALIGNED = 32  # widths are padded to a multiple of it
SAMPLE = 512  # rows that place the centre
PIECE = 2**18  # elements that are prepared at a time: they stay in the cache


@dataclass(frozen=True)
class Arithmetic:
    """The numbers that rows are rounded to; sums are float32.

    A number beside z is the sum of `addends`, to 2^-23; `loss` is the rounding of the stored result.
    """

    name: str
    dtype: torch.dtype
    addends: int
    loss: float

    def width(self, features: int) -> int:
        """Return K."""
        return math.ceil((features + 2 * self.addends) / ALIGNED) * ALIGNED


FLOAT32 = Arithmetic("float32", torch.float32, 1, 0.0)
BFLOAT16 = Arithmetic("bfloat16", torch.bfloat16, 3, 2.0**-8)


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Switch off TF32, bf16 instead of float32 products and autocast, for which the bounds would not hold."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class Frame:
    """Centre, and a power of two as scale, under which little is lost and nothing overflows; T as above."""

    centre_D: Tensor  # float32, after scaling
    scale: float
    arithmetic: Arithmetic = FLOAT32
    T: float = 0.0

    def prepare(self, points: Points, rows: slice, left: bool) -> Rows:
        """Round and widen some rows for one side of the product."""
        first, last, _ = rows.indices(len(points))
        dtype, D = self.arithmetic.dtype, points.width
        u_NK = torch.empty(last - first, self.arithmetic.width(D), dtype=dtype, device=points.device)
        norm_N, lost_N = torch.zeros(2, last - first, device=points.device)
        for piece in slices(last - first, max(1, PIECE // D)):
            rows, z_ND = slice(first + piece.start, first + piece.stop), u_NK[piece, :D]
            y_ND = self._centred(points, rows, z_ND if dtype == torch.float32 else None)
            if dtype != torch.float32:
                rounded_ND = z_ND.copy_(y_ND).float()
                lost_N[piece] = torch.linalg.vector_norm(y_ND.sub_(rounded_ND), dim=1)
                y_ND = rounded_ND
            norm_N[piece] = torch.linalg.vector_norm(y_ND, dim=1)
        more = 1 + (D + 8) * 2.0**-23  # for the errors of the norms
        delta_N = more * (lost_N.double() + 2.0**-23 * norm_N.double()) + 4 * math.sqrt(D) * TINY
        return self.sided(Rows(u_NK, norm_N.double().square() / 2, delta_N, D), left)

    def _centred(self, points: Points, rows: slice, out_ND: Tensor | None) -> Tensor:
        """Return y, with one rounding to float32 (what the scaling underflows is in delta)."""
        x_ND = points.x_ND[rows]
        narrow = x_ND.dtype in (torch.float32, torch.float16, torch.bfloat16) and self.scale < 2.0**127
        if not points.unit and narrow:
            return torch.add(-self.centre_D, x_ND.float(), alpha=self.scale, out=out_ND)
        y_ND = points.wide(rows) * self.scale - self.centre_D.double()
        return y_ND.float() if out_ND is None else out_ND.copy_(y_ND)

    def sided(self, rows: Rows, left: bool) -> Rows:
        """Write the numbers beside z, in place."""
        n, u_NK = self.arithmetic.addends, rows.u_NK
        D = rows.features
        u_NK[:, D:] = 0
        ones, sums = (slice(D, D + n), slice(D + n, D + 2 * n))[:: 1 if left else -1]
        u_NK[:, ones] = 1
        rest_N = self.T / 2 - rows.h_N if left else -rows.h_N
        for column in range(sums.start, sums.stop):
            u_NK[:, column] = rest_N.to(u_NK.dtype)
            rest_N = rest_N - u_NK[:, column].double()
        return rows

    def gamma(self, features: int) -> float:
        """Return the relative error of a sum and of the numbers beside z."""
        t = (self.arithmetic.width(features) + 8) * 2.0**-24
        return t / (1 - t) if t < 0.5 else math.inf


@dataclass(frozen=True)
class Rows:
    """Prepared rows u_NK with half their squared norms and the radius of their rounding, float64."""

    u_NK: Tensor
    h_N: Tensor
    delta_N: Tensor
    features: int  # D

    def __len__(self) -> int:
        return len(self.h_N)

    def part(self, rows: slice) -> Rows:
        return replace(self, u_NK=self.u_NK[rows], h_N=self.h_N[rows], delta_N=self.delta_N[rows])

    def copy(self) -> Rows:
        return replace(self, u_NK=self.u_NK.clone())


def make_frame(a: Points, b: Points) -> Frame:
    """Centre about the mean of b; scale both sets to coordinates below about one."""
    peak = 1.0 if a.unit else max(_peak(points) for points in ([a] if a is b else [a, b]))
    scale = 2.0 ** -math.ceil(math.log2(peak)) if peak > 0 else 1.0
    some = slice(0, None, math.ceil(len(b) / SAMPLE))
    return Frame((b.wide(some) * scale).mean(0).float(), scale)


def _peak(points: Points) -> float:
    low, high = points.x_ND.aminmax()
    return max(-float(low), float(high))


@dataclass(frozen=True)
class Block:
    """s_IJ of some rows and columns; `first` are the numbers of the first of each."""

    s_IJ: Tensor
    rows: Rows
    cols: Rows
    first: tuple[int, int]
    frame: Frame

    @property
    def features(self) -> int:
        return self.rows.features

    @property
    def mirrored(self) -> Block:
        """The same pairs with rows and columns exchanged."""
        return replace(
            self, s_IJ=self.s_IJ.T, rows=self.cols, cols=self.rows, first=(self.first[1], self.first[0])
        )

    def _error(self, h: Tensor) -> Tensor:
        """Bound the error of s, given the sum of both h."""
        return self.frame.gamma(self.features) * (3 * h + self.frame.T / 2) + 8 * self.features * TINY

    @property
    def _margin(self) -> float:
        """Relative error of exact distances, which are float64 sums."""
        return (self.features + 16) * 2.0**-52

    def least(self, reach_I: Tensor) -> Tensor:
        """Return for each row the least stored s that a pair of distance <= reach_I can have."""
        d_I = reach_I * (1 + self._margin) + self.rows.delta_N + self.cols.delta_N.max()
        s_I = (self.frame.T - d_I.square()) / 2 - self._error(self.rows.h_N + self.cols.h_N.max())
        return s_I.to(self.s_IJ.dtype)  # rounding keeps the order

    def farthest(self, s_Rk: Tensor, rows_R: Tensor) -> Tensor:
        """Return the largest distance that pairs of some rows with these stored s can have."""
        error_R = self._error(self.rows.h_N[rows_R] + self.cols.h_N.max())
        delta_R = self.rows.delta_N[rows_R] + self.cols.delta_N.max()
        return self._bounds(s_Rk.double(), error_R[:, None], delta_R[:, None])[1]

    def bounds(self, i_P: Tensor, j_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the largest distance that each of some pairs can have."""
        s_P = self.s_IJ[i_P, j_P].double()
        error_P = self._error(self.rows.h_N[i_P] + self.cols.h_N[j_P])
        return self._bounds(s_P, error_P, self.rows.delta_N[i_P] + self.cols.delta_N[j_P])

    def _bounds(self, s: Tensor, error: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        slack = 2 * (error + self.frame.arithmetic.loss * s.abs().nan_to_num(posinf=0.0))
        e = self.frame.T - 2 * s
        low = (e - slack).clamp_min(0).sqrt() - delta
        high = (e + slack).clamp_min(0).sqrt() + delta
        return low * (1 - self._margin), high * (1 + self._margin)


def multiply(left_IK: Tensor, right_JK: Tensor) -> Tensor:
    """Return left right^T, in the dtype of both."""
    if left_IK.dtype == torch.float32 and left_IK.device.type == "cpu" and onednn_float32():
        return _onednn(left_IK, right_JK)
    return linear(left_IK, right_JK)


def _onednn(left_IK: Tensor, right_JK: Tensor) -> Tensor:
    s_IJ: Tensor = torch.ops.mkldnn._linear_pointwise(left_IK, right_JK, None, "none", [], "")
    return s_IJ


@lru_cache
def onednn_float32() -> bool:
    """Tell whether oneDNN multiplies here, and in true float32; on some processors it is twice as fast."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return _is_true(_onednn, FLOAT32)
    except (AttributeError, RuntimeError):  # not a public operator: other releases may lack it
        return False


@lru_cache
def bfloat16_pays() -> bool:
    """Tell whether this processor multiplies bfloat16 with float32 sums, much faster than float32.

    On a CPU only: sums inside a GPU's bfloat16 product are narrower than float32.
    """
    if not _is_true(linear, BFLOAT16):
        return False
    return _seconds(BFLOAT16) < 0.67 * _seconds(FLOAT32)


def _is_true(product: Callable[[Tensor, Tensor], Tensor], arithmetic: Arithmetic) -> bool:
    """Test a product on rows whose sums cancel, where a narrower sum or operand would show."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(96, 4096, generator=g).to(arithmetic.dtype) for _ in range(2))
    with plain_float32(a.device):
        s = product(a, b).double()
    exact = a.double() @ b.double().T
    allowed = 8 * math.sqrt(4096) * 2.0**-24 * 64 + (arithmetic.loss + 2.0**-23) * exact.abs()
    return bool(((s - exact).abs() <= allowed).all())


def _seconds(arithmetic: Arithmetic) -> float:
    """Return the best time of a few products of usual shape."""
    frame = Frame(torch.zeros(1000), 1.0, arithmetic)
    points = Points(torch.ones(512, 1000))
    left, right = (frame.prepare(points, slice(None), side) for side in (True, False))
    times = []
    with plain_float32(points.device):
        for _ in range(4):
            start = time.perf_counter()
            multiply(left.u_NK, right.u_NK)
            times.append(time.perf_counter() - start)
    return min(times[1:])
