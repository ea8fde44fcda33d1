"""Copies of training samples, seen in the distances to the nearest of them.

Authenticity (Alaa et al. 2022): a generated sample is authentic unless it is nearer to its nearest training
sample than that one is to any other training sample. Its share in percent is AuthPct:

    100 * authentic(train_ND, fake_MD, run=run).double().mean()

C_T (Meehan et al. 2020): are generated samples nearer to the training set than test samples are? A
Mann-Whitney test within each cell of the training set, averaged over cells; far below 0 means copying, far
above 0 underfitting:

    cells = kmeans_cells(train_ND, test_ND, fake_ND, count=10, seed=0)       # or Cells(...) of given labels
    found = c_t(train_ND, test_ND, fake_ND, cells, run=run)                  # found.value, found.z_C
    z = z_u(train_ND, test_ND, fake_ND, run=run)                             # the test without cells

Legend: N training rows, M generated rows, n test rows, D feature width, C cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genplug.protocols import Distance
from genplug.runtime import Run
from genplug_distances.exact import Euclidean
from genplug_distances.neighbours import nearest_of, nearest_others

EUCLIDEAN = Euclidean()
FEWEST = 20  # generated rows that a cell needs to count (Meehan et al.: tau = 20 / M)


def authentic(
    train_ND: Tensor, fake_MD: Tensor, distance: Distance = EUCLIDEAN, run: Run | None = None
) -> Tensor:
    """Return bool M: farther from the nearest training row than that is from its nearest other one."""
    own_N1, _ = nearest_others(run, distance, train_ND, 1)
    d_M1, i_M1 = nearest_of(run, distance, fake_MD, train_ND, 1)
    return d_M1[:, 0] > own_N1[i_M1[:, 0], 0]


# --- C_T ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cells:
    """The cell of each row, int64, counted from 0."""

    train_N: Tensor
    test_n: Tensor
    fake_M: Tensor


@dataclass(frozen=True)
class CT:
    """C_T, its parts, and with what weights: z_C is NaN and the weight 0 where a cell does not count."""

    value: float
    z_C: Tensor
    weight_C: Tensor

    @property
    def cells(self) -> int:
        """How many cells count."""
        return int((self.weight_C > 0).sum())


def mann_whitney_z(fake_M: Tensor, test_n: Tensor) -> float:
    """Return the standardised Mann-Whitney statistic of two sets of distances, < 0 if fakes are smaller.

    U counts pairs in which the generated distance is larger, ties half; with continuity correction,
    Z = (U - n M / 2 + 1/2) / sqrt(n M (n + M + 1) / 12).
    """
    M, n = len(fake_M), len(test_n)
    ordered_n = test_n.sort().values
    below, up_to = (torch.searchsorted(ordered_n, fake_M, right=right).sum() for right in (False, True))
    U = float(below + up_to) / 2
    return (U - n * M / 2 + 0.5) / math.sqrt(n * M * (n + M + 1) / 12)


def z_u(
    train_ND: Tensor,
    test_ND: Tensor,
    fake_MD: Tensor,
    distance: Distance = EUCLIDEAN,
    run: Run | None = None,
) -> float:
    """Return Z of generated against test rows, by their distances to the nearest training rows."""
    fake_M, test_n = (nearest_of(run, distance, rows, train_ND, 1)[0][:, 0] for rows in (fake_MD, test_ND))
    return mann_whitney_z(fake_M, test_n)


def c_t(
    train_ND: Tensor,
    test_ND: Tensor,
    fake_MD: Tensor,
    cells: Cells,
    distance: Distance = EUCLIDEAN,
    run: Run | None = None,
) -> CT:
    """Return C_T = sum_c P(c) Z_c / sum_c P(c), over the cells with at least 20 generated rows.

    P(c) is the share of the test rows in cell c, Z_c compares the rows in it by their distances to the
    training rows in it. The value is NaN if no cell counts.
    """
    C = 1 + max(int(labels.max()) for labels in (cells.train_N, cells.test_n, cells.fake_M))
    z_C, weight_C = torch.full((C,), math.nan, dtype=torch.float64), torch.zeros(C, dtype=torch.float64)
    for c in range(C):
        pairs = (train_ND, cells.train_N), (test_ND, cells.test_n), (fake_MD, cells.fake_M)
        train, test, fake = (rows[labels == c] for rows, labels in pairs)
        if len(fake) >= FEWEST and len(test) and len(train):
            z_C[c] = z_u(train, test, fake, distance, run)
            weight_C[c] = len(test) / len(test_ND)
    total = float(weight_C.sum())
    value = float((z_C.nan_to_num() * weight_C).sum()) / total if total else math.nan
    return CT(value, z_C, weight_C)


def kmeans_cells(train_ND: Tensor, test_ND: Tensor, fake_MD: Tensor, count: int = 10, seed: int = 0) -> Cells:
    """Return the cells of k-means on the training rows; other rows go to the nearest centre."""
    centres_CD = kmeans(train_ND, min(count, len(train_ND)), seed)
    return Cells(*(_nearest_centre(rows, centres_CD) for rows in (train_ND, test_ND, fake_MD)))


def kmeans(rows_ND: Tensor, count: int, seed: int = 0, rounds: int = 50) -> Tensor:
    """Return centres_CD (Lloyd 1982), begun far apart (k-means++, Arthur and Vassilvitskii 2007)."""
    g = torch.Generator().manual_seed(seed)
    rows_ND = rows_ND.double()
    centres_CD = rows_ND[torch.randint(len(rows_ND), (1,), generator=g)]
    squared_N = (rows_ND - centres_CD).square().sum(1)
    while len(centres_CD) < count and bool(squared_N.any()):
        new_1D = rows_ND[torch.multinomial(squared_N / squared_N.sum(), 1, generator=g)]
        centres_CD = torch.cat([centres_CD, new_1D])
        squared_N = torch.minimum(squared_N, (rows_ND - new_1D).square().sum(1))
    labels_N = _nearest_centre(rows_ND, centres_CD)
    for _ in range(rounds):
        counts_C = torch.bincount(labels_N, minlength=len(centres_CD)).clamp_min(1)
        sums_CD = torch.zeros_like(centres_CD).index_add_(0, labels_N, rows_ND)
        before_N, labels_N = labels_N, _nearest_centre(rows_ND, centres_CD := sums_CD / counts_C[:, None])
        if torch.equal(before_N, labels_N):
            break
    return centres_CD


def _nearest_centre(rows_ND: Tensor, centres_CD: Tensor) -> Tensor:
    return EUCLIDEAN.index(centres_CD).search(rows_ND.double(), 1)[1][:, 0]
