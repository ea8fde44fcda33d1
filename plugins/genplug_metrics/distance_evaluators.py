"""Evaluators of the distance between two sets as a whole: Frechet, its extrapolation, kernel, sliced."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.subsets import ranked
from genplug_metrics.config import FdInfinityConfig, FrechetConfig, KernelConfig, SlicedConfig
from genplug_metrics.fd_infinity import even_sizes, fd_infinity
from genplug_metrics.frechet import Frechet, Gaussian, fit_rows, frechet_distance
from genplug_metrics.intervals import (
    Interval,
    deal,
    frechet_jackknife,
    frechet_jackknife_to,
    generator,
    jackknife,
    student_t,
)
from genplug_metrics.mmd import Energy, Kernel, Polynomial, draw_subsets, mmd, subset_mmd
from genplug_metrics.mmd import Gaussian as Rbf
from genplug_metrics.scoring import LEVEL, both_sides, check_counts, generated, score, warn_once
from genplug_metrics.sliced import leave_one_out, moments, sliced_wasserstein

WIDEST = 2**15  # features: 8 GiB a covariance
_NONE = Interval(0.0, math.inf, LEVEL, "none: too few samples")


class FrechetEvaluator:
    """Frechet distance to real samples or to their statistics."""

    def __init__(self, config: FrechetConfig, name: str = "fd", output: str | None = None) -> None:
        self.config, self.name, self.output = config, name, output

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return the distance, with both of its terms; a file's statistics go before its samples.

        ADM's reference batches hold both, and their statistics are of more images.
        """
        known = inputs.statistics and inputs.statistics.find(inputs.extractor or "", self.output)
        by_samples = inputs.held_out is not None and not known
        if by_samples:
            real_ND, fake_MD, extractor = both_sides(inputs, run, "a Frechet distance", 2, self.output)
            n: int | None = len(real_ND)
            found, spread = self._to_rows(fake_MD, real_ND, run.seed)
        else:
            fake_MD, extractor = generated(inputs, run, self.output)
            check_counts("a Frechet distance", 2, generated=len(fake_MD))
            real = _statistics(inputs, extractor, self.output, fake_MD.shape[1])
            n, (found, spread) = real.n, self._to_statistics(fake_MD, real, run.seed)
        m, width = fake_MD.shape
        extra = {
            "mean_term": found.mean_term,
            "cov_term": found.cov_term,
            "dimensions": width,
            "rank_deficient": min(m, n or m) <= width,
            "reference": "samples" if by_samples else "statistics",
        }
        if extra["rank_deficient"]:
            _warn_of_low_rank(run, self.name, extractor, m, n, width)
        return {self.name: score(self.name, found.value, spread, (m, n or 0), extractor, extra)}

    def _to_rows(self, fake_MD: Tensor, real_ND: Tensor, seed: int) -> tuple[Frechet, Interval]:
        _check_width(fake_MD.shape[1], max(len(fake_MD), len(real_ND)))
        found = frechet_distance(fit_rows(fake_MD), fit_rows(real_ND))
        groups = min(self.config.groups, len(real_ND) // 2, len(fake_MD) // 2)
        if groups < 2:
            return found, _NONE
        return found, frechet_jackknife(fake_MD, real_ND, groups, LEVEL, seed, found.value)

    def _to_statistics(self, fake_MD: Tensor, real: Gaussian, seed: int) -> tuple[Frechet, Interval]:
        found = frechet_distance(fit_rows(fake_MD), real)
        groups = min(self.config.groups, len(fake_MD) // 2)
        if groups < 2:
            return found, _NONE
        return found, frechet_jackknife_to(fake_MD, real, groups, LEVEL, seed, found.value)


def _check_width(width: int, n: int) -> None:
    """Refuse covariances that no memory holds, rather than be killed; few rows need none."""
    if n > width > WIDEST:
        size = 8 * width**2 / 2**30
        raise DataError(
            f"a Frechet distance of {width:,} features has covariances of {size:,.0f} GiB each; "
            "name an extractor with fewer features"
        )


def _statistics(inputs: EvalInputs, extractor: str, output: str | None, width: int) -> Gaussian:
    """Return the Gaussian of real samples from a file."""
    if inputs.statistics is None:
        raise DataError("a Frechet distance needs real samples or their statistics")
    mu_D, cov_DD, n = inputs.statistics.gaussian(extractor, output)
    if len(mu_D) != width:
        raise DataError(
            f"{inputs.statistics.name} has statistics of {len(mu_D)} features, {extractor} gives {width}; "
            "name the extractor and output that made them"
        )
    return Gaussian(mu_D, cov_DD, n)


def _warn_of_low_rank(run: Run, name: str, extractor: str, m: int, n: int | None, width: int) -> None:
    counts = f"{m} generated and {'an unknown number of' if n is None else n} real samples"
    warn_once(
        run,
        f"{name} on {extractor}: {counts} are too few for {width} features; covariances of lower rank bias "
        f"it upwards, so compare equal counts alone, or use well over {width} samples a side",
    )


class FdInfinityEvaluator:
    """Frechet distance extrapolated to infinitely many generated samples."""

    def __init__(self, config: FdInfinityConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `fd-infinity`, with the line and its points."""
        real_ND, fake_MD, extractor = both_sides(inputs, run, "fd-infinity", 8)
        m, width, g = len(fake_MD), fake_MD.shape[1], generator(run.seed)
        _check_width(width, max(m, len(real_ND)))
        fake_MD = ranked(fake_MD)[torch.randperm(m, generator=g)]
        smallest = self.config.smallest or min(max(m // 10, 2 * width), m // 2)
        if not 2 <= smallest < m:
            raise DataError(
                f"fd-infinity cannot begin with {smallest} of {m} samples; set a smallest of 2 to {m - 1}"
            )
        sizes = even_sizes(smallest, m, self.config.points)
        if sizes[0] < 2 * width:
            warn_once(
                run,
                f"fd-infinity on {extractor}: its smallest subset has {sizes[0]} samples for {width} "
                f"features; the bias is no line in 1/n there, so use 4 x {width} generated samples or more",
            )
        found = fd_infinity(fake_MD, fit_rows(real_ND), sizes)
        groups = min(self.config.groups, sizes[0] // 2, len(real_ND) // 2)
        spread = Interval(-math.inf, math.inf, LEVEL, _NONE.kind)
        if groups >= 2:
            spread = self._jackknife(real_ND, fake_MD, sizes, groups, found.value, g)
        extra = {"slope": found.slope, "sizes": list(found.sizes), "distances": found.distances_S.tolist()}
        extra |= {"dimensions": width, "largest": float(found.distances_S[-1])}
        counts = (m, len(real_ND))
        return {"fd-infinity": score("fd-infinity", found.value, spread, counts, extractor, extra)}

    def _jackknife(
        self, real_ND: Tensor, fake_MD: Tensor, sizes: list[int], groups: int, full: float, g: torch.Generator
    ) -> Interval:
        """Leave groups out of both sets; subsets are nested, so each group loses its rows in all of them."""
        values = []
        parts = deal(len(real_ND), groups, g)
        for number, part in enumerate(parts):
            kept = torch.arange(len(fake_MD)) % groups != number
            reference = fit_rows(_without(real_ND, part))
            cut = [int(kept[:size].sum()) for size in sizes]
            values.append(fd_infinity(fake_MD[kept], reference, cut).value)
        return jackknife(full, values, LEVEL, f"jackknife over {groups} groups of rows, the line fitted anew")


class KernelEvaluator:
    """Kernel distance, squared, unbiased: of whole sets, or the mean over subsets that is known as KID."""

    def __init__(self, config: KernelConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `kd`; its interval holds what the choice of samples does, and the draw of subsets."""
        real_ND, fake_MD, extractor = both_sides(inputs, run, "a kernel distance", 3)
        n, m, kernel = len(real_ND), len(fake_MD), self._kernel()
        size = min(self.config.subset_size, n, m)
        extra: dict[str, Any] = {"kernel": str(kernel), "squared": True}
        if self.config.form == "subsets" and size == max(n, m):
            warn_once(
                run, f"kd on {extractor}: {size} samples a side make no subsets; the whole sets are used"
            )
        if self.config.form == "full" or size == max(n, m):
            whole = mmd(real_ND, fake_MD, kernel)
            value, variance, kind = whole.unbiased, sum(whole.variances), "jackknife over rows"
            extra |= {"form": "full", "biased": whole.biased}
        else:
            g = generator(run.seed)
            real_ND, fake_MD = ranked(real_ND), ranked(fake_MD)
            real_SB, fake_SB = (draw_subsets(count, size, self.config.subsets, g) for count in (n, m))
            drawn = subset_mmd(real_ND, fake_MD, real_SB, fake_SB, kernel)
            value, variance = drawn.mean, drawn.variance(n, m, size)
            kind = "jackknife over rows of the subsets, scaled to all rows, and their draw"
            extra |= {"form": "subsets", "subsets": len(drawn.values_S), "subset_size": size}
            extra |= {"std_over_subsets": drawn.std}
        half = student_t((1 + LEVEL) / 2, max(3, min(n, m) - 1)) * math.sqrt(variance)
        spread = Interval(value - half, value + half, LEVEL, kind)
        return {"kd": score("kd", value, spread, (m, n), extractor, extra)}

    def _kernel(self) -> Kernel:
        c = self.config
        return Rbf(c.sigma) if c.kernel == "rbf" else Polynomial(c.degree, c.gamma or None, c.coef)


class EnergyEvaluator:
    """Energy distance of whole sets, in units of the features, unbiased."""

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `energy`; below zero by chance if the distributions are equal."""
        real_ND, fake_MD, extractor = both_sides(inputs, run, "an energy distance", 3)
        n, m = len(real_ND), len(fake_MD)
        found = mmd(real_ND, fake_MD, Energy())
        half = student_t((1 + LEVEL) / 2, max(3, min(n, m) - 1)) * math.sqrt(sum(found.variances))
        spread = Interval(found.unbiased - half, found.unbiased + half, LEVEL, "jackknife over rows")
        extra = {"biased": found.biased, "squared": False, "form": "2 E|x - y| - E|x - x'| - E|y - y'|"}
        return {"energy": score("energy", found.unbiased, spread, (m, n), extractor, extra)}


class SlicedEvaluator:
    """Sliced Wasserstein distance by its closed form."""

    def __init__(self, config: SlicedConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `sw`."""
        real_ND, fake_MD, extractor = both_sides(inputs, run, "a sliced Wasserstein distance", 2)
        n, m, g = len(real_ND), len(fake_MD), generator(run.seed)
        value = sliced_wasserstein(moments(real_ND), moments(fake_MD))
        groups = min(self.config.groups, n // 2, m // 2)
        spread = _NONE
        if groups >= 2:
            sets = ((real_ND, deal(n, groups, g)), (fake_MD, deal(m, groups, g)))
            left = [leave_one_out([moments(feat[rows]) for rows in parts]) for feat, parts in sets]
            values = [sliced_wasserstein(x, y) for x, y in zip(*left, strict=True)]
            spread = jackknife(value, values, LEVEL, f"jackknife over {groups} groups of rows", least=0.0)
        extra = {
            "method": "closed form of mean and total variance",
            "order": 2,
            "dimensions": real_ND.shape[1],
        }
        return {"sw": score("sw", value, spread, (m, n), extractor, extra)}


def _without(feat_ND: Tensor, rows: Tensor) -> Tensor:
    kept_N = torch.ones(len(feat_ND), dtype=torch.bool)
    kept_N[rows] = False
    return feat_ND[kept_N]
