"""Precision, recall, density and coverage from k-nearest-neighbour balls, exact, in O((N + M) k) memory.

Precision and recall: Kynkaanniemi et al. 2019; density and coverage: Naeem et al. 2020. A ball B(x_i) has
the distance of x_i to its k-th nearest *other* row as radius. Whether its rim belongs to it is a convention:
`published` is `<=` for precision and recall (their paper, torch-fidelity) and `<` for density and coverage
(theirs, prdc and dgm-eval); `<` and `<=` hold for all four.

Legend: N real rows x, M generated rows y, D feature width, K values of k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genplug.protocols import Distance
from genplug.runtime import Run
from genplug_distances.exact import Euclidean
from genplug_distances.neighbours import balls, nearest_others

EUCLIDEAN = Euclidean()
Convention = Literal["published", "<", "<="]


@dataclass(frozen=True)
class Prdc:
    """Membership per row for one k; the four scores are means of it.

    precise_M: whether a real ball holds each generated row. recalled_N: whether a generated ball holds each
    real row. hits_M: how many real balls hold each generated row. covered_N: whether each real row's own ball
    holds a generated row. The first two follow one convention, the last two another where they differ.
    """

    k: int
    precise_M: Tensor
    recalled_N: Tensor
    hits_M: Tensor
    covered_N: Tensor

    @property
    def precision(self) -> float:
        """Share of generated rows inside some real ball, in [0, 1]."""
        return int(self.precise_M.sum()) / len(self.precise_M)

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


def radii(
    feat_ND: Tensor, ks: Sequence[int], distance: Distance = EUCLIDEAN, run: Run | None = None
) -> Tensor:
    """Return r_NK in units of the distance: to the k-th nearest other row, for each k."""
    return nearest_others(run, distance, feat_ND, max(ks))[0][:, [k - 1 for k in ks]]


def prdc(
    real_ND: Tensor,
    fake_MD: Tensor,
    ks: Sequence[int] = (5,),
    *,
    convention: Convention = "published",
    distance: Distance = EUCLIDEAN,
    run: Run | None = None,
) -> dict[int, Prdc]:
    """Return the four scores for every k; each k must be below both row counts.

    With a `run`, neighbours are shared with other scores and work is shared out over its processes.
    """
    found = balls(run, distance, real_ND, fake_MD, ks)
    x_pr, y_pr = (found.x_open, found.y_open) if convention == "<" else (found.x_closed, found.y_closed)
    x_dc = found.x_closed if convention == "<=" else found.x_open
    return {
        k: Prdc(
            k,
            precise_M=x_pr.of_points[:, c] > 0,
            recalled_N=y_pr.of_points[:, c] > 0,
            hits_M=x_dc.of_points[:, c],
            covered_N=x_dc.of_balls[:, c] > 0,
        )
        for c, k in enumerate(ks)
    }


def realism(
    real_ND: Tensor,
    fake_MD: Tensor,
    k: int,
    distance: Distance = EUCLIDEAN,
    rows: int = 1024,
    run: Run | None = None,
) -> Tensor:
    """Return for each generated row max r_i / d_ij over the real balls of radius below the median, float64.

    Realism score of Kynkaanniemi et al. 2019; infinite for an exact copy. The median of an even count is the
    mean of two.
    """
    r_N = radii(real_ND, [k], distance, run)[:, 0]
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
