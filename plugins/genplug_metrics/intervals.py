"""Intervals for scores: what each one covers is said in `Interval.kind`.

`level` is the two-sided probability, 0.9 by default as for the IRS interval of alpha_e = 0.05 per side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from genplug_metrics.frechet import Fitted, Gaussian, GaussianStats, fit_rows, frechet_distance


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


def difference(a: Interval, share_a: float, b: Interval, share_b: float) -> Interval:
    """Return the interval of a difference of two shares from their own (Newcombe 1998, method 10)."""
    value = share_a - share_b
    low = value - math.hypot(share_a - a.low, b.high - share_b)
    high = value + math.hypot(a.high - share_a, share_b - b.low)
    return Interval(low, high, a.level, f"difference of two {a.kind} intervals")


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


# --- quantiles ------------------------------------------------------------------------------------------


def normal(level: float) -> float:
    """Return the z of a two-sided normal interval of a level: 1.645 for 0.9."""
    return NormalDist().inv_cdf((1 + level) / 2)


def median_interval(values_N: Tensor, level: float = 0.9) -> Interval:
    """Return the order statistics that hold the median with at least this probability, for any distribution.

    [x_(j), x_(n+1-j)] with the largest j that has P(B < j) <= (1 - level) / 2 for B binomial(n, 1/2). Where
    values are too few for any j it is their range, with the level that this has.
    """
    n, tail, j = len(values_N), (1 - level) / 2, 0
    ordered_N = values_N.detach().double().sort().values
    while 2 * (j + 1) <= n and 1 - _upper_tail(j + 1, n, 0.5) <= tail:
        j += 1
    if j:
        low, high = float(ordered_N[j - 1]), float(ordered_N[n - j])
        return Interval(low, high, level, "order statistics around the median")
    reached = 1 - 2.0 ** (1 - n)
    return Interval(float(ordered_N[0]), float(ordered_N[-1]), reached, "range of the few values")


# --- resampling -----------------------------------------------------------------------------------------


def bootstrap(
    statistic: Callable[[Tensor], float], n: int, draws: int = 1000, level: float = 0.9, seed: int = 0
) -> Interval:
    """Return the percentile interval of statistic(rows_n), n rows drawn with replacement (Efron 1979)."""
    g = generator(seed)
    values = [statistic(torch.randint(n, (n,), generator=g)) for _ in range(draws)]
    return percentiles(values, level, "bootstrap percentile over rows")


def bootstrap_mean(values_N: Tensor, draws: int = 1000, level: float = 0.9, seed: int = 0) -> Interval:
    """Return the percentile interval of a mean over rows, for instance of density from its hits per row.

    Values are sorted first, so that what is drawn does not depend on the order of the rows.
    """
    values_N = values_N.detach().double().cpu().sort().values
    return bootstrap(lambda rows: float(values_N[rows].mean()), len(values_N), draws, level, seed)


def percentiles(values: Sequence[float], level: float, kind: str) -> Interval:
    """Return the central share `level` of the values."""
    sides = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.tensor(values, dtype=torch.float64).quantile(sides).tolist()
    return Interval(low, high, level, kind)


def frechet_jackknife(
    x_ND: Tensor,
    y_MD: Tensor,
    groups: int = 20,
    level: float = 0.9,
    seed: int = 0,
    full: float | None = None,
) -> Interval:
    """Return the interval of the Frechet distance between samples of *these sizes*, by leaving out rows.

    Delete-a-group jackknife (Shao and Tu 1995, section 2.3): rows are dealt at random into G groups per set
    and group g is left out of both sets at once. With theta_g the G distances and theta that of all rows,

        variance = (G - 1)/G sum_g (theta_g - mean theta)^2,    interval = theta +- t_{G-1} sqrt(variance).

    It measures how much the printed number changes with other samples of the same sizes. It is no interval
    for the distance of the distributions: the distance of finite samples is biased upwards by O(1/n), the
    bootstrap would add the same bias again, and neither is corrected here. Cost: log2 G passes over the rows
    and G + 1 distances, whatever N and M; one less where the distance of all rows is given as `full`.
    """
    if not 2 <= groups <= min(len(x_ND), len(y_MD)) // 2:
        sizes = f"{len(x_ND)} and {len(y_MD)}"
        raise ValueError(f"{groups} groups need at least {2 * groups} rows per set, got {sizes}")
    g = generator(seed)
    without_x, without_y = (leave_one_out(_deal(feat, groups, g)) for feat in (x_ND, y_MD))
    values = [frechet_distance(a, b).value for a, b in zip(without_x, without_y, strict=True)]
    if full is None:
        full = frechet_distance(fit_rows(x_ND), fit_rows(y_MD)).value
    return jackknife(full, values, level, f"jackknife over {groups} groups of rows", least=0.0)


def frechet_jackknife_to(
    x_ND: Tensor,
    reference: Gaussian,
    groups: int = 20,
    level: float = 0.9,
    seed: int = 0,
    full: float | None = None,
) -> Interval:
    """Return the interval as `frechet_jackknife` does, for a reference of which only statistics are known."""
    values = [
        frechet_distance(a, reference).value for a in leave_one_out(_deal(x_ND, groups, generator(seed)))
    ]
    if full is None:
        full = frechet_distance(fit_rows(x_ND), reference).value
    kind = f"jackknife over {groups} groups of generated rows, the reference as it is"
    return jackknife(full, values, level, kind, least=0.0)


def jackknife(
    full: float, values: Sequence[float], level: float, kind: str, least: float = -math.inf
) -> Interval:
    """Return full +- t sqrt(variance) from G values, each without one of G groups; cut off at `least`."""
    groups = len(values)
    variance = (groups - 1) * float(torch.tensor(values, dtype=torch.float64).var(correction=0))
    half = student_t((1 + level) / 2, groups - 1) * math.sqrt(variance)
    return Interval(max(least, full - half), full + half, level, kind)


def deal(n: int, groups: int, g: torch.Generator) -> tuple[Tensor, ...]:
    """Return the row numbers of each of G groups, dealt at random."""
    return torch.randperm(n, generator=g).tensor_split(groups)


def _deal(feat_ND: Tensor, groups: int, g: torch.Generator) -> list[Tensor]:
    return [feat_ND[rows.to(feat_ND.device)] for rows in deal(len(feat_ND), groups, g)]


def leave_one_out(parts: Sequence[Tensor]) -> Iterator[Fitted]:
    """Yield the Gaussian of all rows but those of each part in turn."""
    left = sum(map(len, parts)) - max(map(len, parts))
    if left > parts[0].shape[1]:
        yield from _by_halving(parts, GaussianStats(parts[0].shape[1]))
    else:  # few rows, which serve as factors of their covariance
        for out in range(len(parts)):
            yield fit_rows(torch.cat([part for number, part in enumerate(parts) if number != out]))


def _by_halving(parts: Sequence[Tensor], outside: GaussianStats) -> Iterator[Gaussian]:
    """Leave parts out by adding the rows of one half to what is outside the other.

    So a row is added once per level, few covariances are in memory at a time, and nothing is subtracted.
    """
    if len(parts) == 1:
        yield outside.finish()
        return
    middle = len(parts) // 2
    for inner, outer in ((parts[:middle], parts[middle:]), (parts[middle:], parts[:middle])):
        grown = outside.copy()
        for part in outer:
            grown.update(part)
        yield from _by_halving(inner, grown)


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
