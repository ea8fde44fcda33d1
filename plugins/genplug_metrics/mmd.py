"""Kernel distance: the squared maximum mean discrepancy between two feature sets, in float64.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)                              (Gretton et al. 2012)

Unbiased: x' and y' are other rows than x and y. Biased: they may be the same. KID (Binkowski et al. 2018)
has the kernel (x.y / D + 1)^3 and is the mean of the unbiased form over subsets. One blocked pass leaves
sums per row, from which the value, its biased form and its jackknife follow.

Legend: N rows x, M rows y, D feature width, S subsets of B rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

BLOCK_BYTES = 2**25


class Kernel(Protocol):
    """A positive definite function of two rows."""

    def __call__(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        """Return k_NM of float64 rows."""


@dataclass(frozen=True)
class Polynomial:
    """(gamma a.b + coef)^degree; gamma is 1 / D if None, as for KID."""

    degree: int = 3
    gamma: float | None = None
    coef: float = 1.0

    def __call__(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        gamma = 1 / a_ND.shape[1] if self.gamma is None else self.gamma
        return (a_ND @ b_MD.T).mul_(gamma).add_(self.coef).pow_(self.degree)

    def __str__(self) -> str:
        gamma = "1/D" if self.gamma is None else f"{self.gamma:g}"
        return f"({gamma} x.y + {self.coef:g})^{self.degree}"


@dataclass(frozen=True)
class Gaussian:
    """exp(-|a - b|^2 / (2 sigma^2)), sigma in units of the features."""

    sigma: float = 10.0

    def __call__(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        e_NM = (a_ND @ b_MD.T).mul_(-2).add_(a_ND.square().sum(1)[:, None]).add_(b_MD.square().sum(1))
        return e_NM.clamp_min_(0).mul_(-0.5 / self.sigma**2).exp_()

    def __str__(self) -> str:
        return f"exp(-|x - y|^2 / (2 {self.sigma:g}^2))"


@dataclass(frozen=True)
class Energy:
    """-|a - b|: MMD^2 is then the energy distance 2 E|x - y| - E|x - x'| - E|y - y'| (Szekely 2013).

    It is no positive definite function, but the distance it makes is one: 0 for equal distributions alone.
    """

    def __call__(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        return torch.cdist(a_ND, b_MD).neg_()

    def __str__(self) -> str:
        return "-|x - y|"


KID = Polynomial()


@dataclass(frozen=True)
class Mmd:
    """Sums of kernel values, float64: per x over the other x and over y, per y the same, and diagonals."""

    xx_N: Tensor
    xy_N: Tensor
    yx_M: Tensor
    yy_M: Tensor
    diagonal_x: float
    diagonal_y: float

    @cached_property
    def unbiased(self) -> float:
        """MMD^2 without pairs of a row with itself; below zero by chance if the distributions are equal."""
        n, m = len(self.xx_N), len(self.yy_M)
        inner = float(self.xx_N.sum()) / (n * (n - 1)) + float(self.yy_M.sum()) / (m * (m - 1))
        return inner - 2 * float(self.xy_N.sum()) / (n * m)

    @property
    def biased(self) -> float:
        """MMD^2 of the two empirical distributions, >= 0."""
        n, m = len(self.xx_N), len(self.yy_M)
        inner = (float(self.xx_N.sum()) + self.diagonal_x) / n**2
        inner += (float(self.yy_M.sum()) + self.diagonal_y) / m**2
        return inner - 2 * float(self.xy_N.sum()) / (n * m)

    @cached_property
    def variances(self) -> tuple[float, float]:
        """Jackknife variance of `unbiased` that comes from the choice of x, and from that of y.

        Leaving out row i changes the sums by what is stored for it. Never too small on average (Efron and
        Stein 1981). Needs three rows on both sides.
        """
        return (
            _delete_one(self.xx_N, self.xy_N, len(self.yy_M)),
            _delete_one(self.yy_M, self.yx_M, len(self.xx_N)),
        )


def _delete_one(own_N: Tensor, cross_N: Tensor, others: int) -> float:
    """Return (n - 1)/n sum_i (U_i - mean U)^2, U_i without row i; the other set's own term is constant."""
    n = len(own_N)
    within_N = (own_N.sum() - 2 * own_N) / ((n - 1) * (n - 2))
    between_N = (cross_N.sum() - cross_N) / ((n - 1) * others)
    return (n - 1) * float((within_N - 2 * between_N).var(correction=0))


def mmd(x_ND: Tensor, y_MD: Tensor, kernel: Kernel = KID) -> Mmd:
    """Return the sums of all pairs, on the device of the rows; two rows a side are the least."""
    if min(len(x_ND), len(y_MD)) < 2:
        raise ValueError(f"a kernel distance needs at least 2 rows a side, not {len(x_ND)} and {len(y_MD)}")
    x_ND, y_MD = x_ND.detach(), y_MD.detach().to(x_ND.device)
    (xx_N, diagonal_x), (yy_M, diagonal_y) = _own_sums(x_ND, kernel), _own_sums(y_MD, kernel)
    xy_N, yx_M = (torch.zeros(len(rows), dtype=torch.float64, device=x_ND.device) for rows in (x_ND, y_MD))
    for i in _slices(len(x_ND)):
        x_ID = x_ND[i].double()
        for j in _slices(len(y_MD)):
            k_IJ = kernel(x_ID, y_MD[j].double())
            xy_N[i] += k_IJ.sum(1)
            yx_M[j] += k_IJ.sum(0)
    return Mmd(xx_N, xy_N, yx_M, yy_M, diagonal_x, diagonal_y)


def _own_sums(x_ND: Tensor, kernel: Kernel) -> tuple[Tensor, float]:
    """Return for each row the sum of its kernel values with the others, and the sum of the diagonal."""
    sum_N, diagonal = torch.zeros(len(x_ND), dtype=torch.float64, device=x_ND.device), 0.0
    blocks = list(_slices(len(x_ND)))
    for number, i in enumerate(blocks):
        x_ID = x_ND[i].double()
        k_II = kernel(x_ID, x_ID)
        diagonal += float(k_II.diagonal().sum())
        k_II.fill_diagonal_(0)
        sum_N[i] += k_II.sum(1)
        for j in blocks[number + 1 :]:
            k_IJ = kernel(x_ID, x_ND[j].double())
            sum_N[i] += k_IJ.sum(1)
            sum_N[j] += k_IJ.sum(0)
    return sum_N, diagonal


def _slices(n: int) -> Iterator[slice]:
    size = math.isqrt(BLOCK_BYTES // 8)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


@dataclass(frozen=True)
class SubsetMmd:
    """Unbiased MMD^2 of S subsets, and the mean jackknife variance of one subset by side."""

    values_S: Tensor
    variance_x: float
    variance_y: float

    @property
    def mean(self) -> float:
        """KID."""
        return float(self.values_S.mean())

    @property
    def std(self) -> float:
        """Population standard deviation over the subsets, which libraries print beside KID."""
        return float(self.values_S.std(correction=0))

    def variance(self, n: int, m: int, size: int) -> float:
        """Return the variance of `mean` as an estimate from n and m rows: theirs and the draw's.

        Given the rows, the mean over random subsets of `size` rows is the whole-set value plus noise of
        variance var(values) / S. The whole-set value varies size / n times as much as a subset's by x (less
        where the distributions are equal), and size / m times by y.
        """
        drawn = float(self.values_S.var(correction=0)) / len(self.values_S)
        return self.variance_x * size / n + self.variance_y * size / m + drawn


def subset_mmd(
    x_ND: Tensor, y_MD: Tensor, rows_x_SB: Tensor, rows_y_SB: Tensor, kernel: Kernel = KID
) -> SubsetMmd:
    """Return the unbiased MMD^2 of each pair of subsets, given by row numbers."""
    found = [mmd(x_ND[i], y_MD[j], kernel) for i, j in zip(rows_x_SB, rows_y_SB, strict=True)]
    variances = [one.variances for one in found]
    return SubsetMmd(
        torch.tensor([one.unbiased for one in found], dtype=torch.float64),
        sum(x for x, _ in variances) / len(found),
        sum(y for _, y in variances) / len(found),
    )


def draw_subsets(n: int, size: int, subsets: int, generator: torch.Generator) -> Tensor:
    """Return row numbers of subsets drawn without replacement inside each, int64 SB."""
    return torch.stack([torch.randperm(n, generator=generator)[:size] for _ in range(subsets)])
