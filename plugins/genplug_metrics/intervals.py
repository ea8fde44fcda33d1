"""Intervals for scores: what each one covers is said in `Interval.kind`.

`level` is the two-sided probability, 0.9 by default as for the IRS interval of alpha_e = 0.05 per side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from genplug_metrics.frechet import Gaussian, GaussianStats, frechet_distance


@dataclass(frozen=True)
class Interval:
    """A two-sided interval [low, high] of a given level, and what it is."""

    low: float
    high: float
    level: float
    kind: str


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- shares ---------------------------------------------------------------------------------------------


def wilson(successes: int, n: int, level: float = 0.9) -> Interval:
    """Return the score interval of a share successes / n (Wilson 1927): close to its level on average."""
    _check_share(successes, n)
    z2, p = NormalDist().inv_cdf((1 + level) / 2) ** 2, successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * p * (1 - p) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(low if successes else 0.0, high if successes < n else 1.0, level, "wilson score")


def clopper_pearson(successes: int, n: int, level: float = 0.9) -> Interval:
    """Return the exact interval of a share (Clopper and Pearson 1934): never below its level."""
    _check_share(successes, n)
    alpha = (1 - level) / 2
    low = 0.0 if successes == 0 else _bisect(lambda p: _upper_tail(successes, n, p) > alpha)
    high = 1.0 if successes == n else 1 - _bisect(lambda q: _upper_tail(n - successes, n, q) > alpha)
    return Interval(low, high, level, "clopper-pearson")


def _check_share(successes: int, n: int) -> None:
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"a share needs 0 <= successes <= n and n > 0, got {successes} of {n}")


def _upper_tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X binomial(n, p), 0 < p < 1."""
    i = torch.arange(k, n + 1, dtype=torch.float64)
    log_choose = math.lgamma(n + 1) - torch.lgamma(i + 1) - torch.lgamma(n - i + 1)
    return math.exp(float(torch.logsumexp(log_choose + i * math.log(p) + (n - i) * math.log1p(-p), 0)))


def _bisect(above: Callable[[float], bool]) -> float:
    """Return the point of (0, 1) from which on `above` holds."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return high


# --- resampling -----------------------------------------------------------------------------------------


def bootstrap(
    statistic: Callable[[Tensor], float], n: int, draws: int = 1000, level: float = 0.9, seed: int = 0
) -> Interval:
    """Return the percentile interval of statistic(rows_n), n rows drawn with replacement (Efron 1979)."""
    g = generator(seed)
    values = [statistic(torch.randint(n, (n,), generator=g)) for _ in range(draws)]
    return percentiles(values, level, "bootstrap percentile over rows")


def bootstrap_mean(values_N: Tensor, draws: int = 1000, level: float = 0.9, seed: int = 0) -> Interval:
    """Return the percentile interval of a mean over rows, for instance of density from its hits per row."""
    values_N = values_N.detach().double().cpu()
    return bootstrap(lambda rows: float(values_N[rows].mean()), len(values_N), draws, level, seed)


def percentiles(values: Sequence[float], level: float, kind: str) -> Interval:
    """Return the central share `level` of the values."""
    sides = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.tensor(values, dtype=torch.float64).quantile(sides).tolist()
    return Interval(low, high, level, kind)


def frechet_jackknife(
    x_ND: Tensor, y_MD: Tensor, groups: int = 20, level: float = 0.9, seed: int = 0
) -> Interval:
    """Return the interval of the Frechet distance between samples of *these sizes*, by leaving out rows.

    Delete-a-group jackknife (Shao and Tu 1995, section 2.3): rows are dealt at random into G groups per set
    and group g is left out of both sets at once. With theta_g the G distances and theta that of all rows,

        variance = (G - 1)/G sum_g (theta_g - mean theta)^2,    interval = theta +- t_{G-1} sqrt(variance).

    It measures how much the printed number changes with other samples of the same sizes. It is no interval
    for the distance of the distributions: the distance of finite samples is biased upwards by O(1/n), the
    bootstrap would add the same bias again, and neither is corrected here. Cost: one pass over the rows and
    G + 1 distances, whatever N and M.
    """
    if not 2 <= groups <= min(len(x_ND), len(y_MD)) // 2:
        sizes = f"{len(x_ND)} and {len(y_MD)}"
        raise ValueError(f"{groups} groups need at least {2 * groups} rows per set, got {sizes}")
    g = generator(seed)
    without_x, without_y = (leave_one_out(_deal(feat, groups, g)) for feat in (x_ND, y_MD))
    values = [frechet_distance(a, b).value for a, b in zip(without_x, without_y, strict=True)]
    theta = torch.tensor(values, dtype=torch.float64)
    full = frechet_distance(_fit_all(x_ND), _fit_all(y_MD)).value
    half = student_t((1 + level) / 2, groups - 1) * math.sqrt((groups - 1) * float(theta.var(correction=0)))
    return Interval(max(0.0, full - half), full + half, level, f"jackknife over {groups} groups of rows")


def _fit_all(feat_ND: Tensor) -> Gaussian:
    return GaussianStats(feat_ND.shape[1]).update(feat_ND).finish()


def _deal(feat_ND: Tensor, groups: int, g: torch.Generator) -> list[GaussianStats]:
    rows = torch.randperm(len(feat_ND), generator=g).to(feat_ND.device).tensor_split(groups)
    return [GaussianStats(feat_ND.shape[1]).update(feat_ND[r]) for r in rows]


def leave_one_out(parts: Sequence[GaussianStats]) -> list[Gaussian]:
    """Return the Gaussian without each part in turn, by merging what comes before it and after it."""
    width = len(parts[0].mu_D)
    before, after = [GaussianStats(width)], [GaussianStats(width)]
    for first, last in zip(parts[:-1], reversed(parts[1:]), strict=True):
        before.append(GaussianStats(width).merge(before[-1]).merge(first))
        after.append(GaussianStats(width).merge(after[-1]).merge(last))
    pairs = zip(before, reversed(after), strict=True)
    return [GaussianStats(width).merge(b).merge(a).finish() for b, a in pairs]


def student_t(p: float, dof: int) -> float:
    """Return the quantile p > 1/2 of Student's t (Cornish-Fisher), within 1 % for dof >= 3, p <= 0.995."""
    z: float = NormalDist().inv_cdf(p)
    terms = [
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    ]
    return z + sum(term / float(dof) ** (i + 1) for i, term in enumerate(terms))
