"""Options of the evaluators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genplug.config import Component, Config, DistanceRef

if TYPE_CHECKING:
    from genplug.protocols import Evaluator
    from genplug.runtime import Run


class FrechetConfig(Config):
    """Options of the Frechet distance."""

    groups: int = Field(20, ge=2, le=1000, description="groups of the jackknife that gives the interval")

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.distance_evaluators import FrechetEvaluator

        return FrechetEvaluator(self)


class SpatialFrechetConfig(FrechetConfig):
    """Options of the Frechet distance of spatial features."""

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.distance_evaluators import FrechetEvaluator

        return FrechetEvaluator(self, "sfd", "spatial")


class FdInfinityConfig(Config):
    """Options of the extrapolated Frechet distance."""

    points: int = Field(15, ge=2, le=1000, description="subset sizes that the line is fitted to")
    smallest: int = Field(
        0, ge=0, description="smallest subset (0: a tenth of the samples, twice the features if possible)"
    )
    groups: int = Field(10, ge=2, le=1000, description="groups of the jackknife that gives the interval")

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.distance_evaluators import FdInfinityEvaluator

        return FdInfinityEvaluator(self)


class KernelConfig(Config):
    """Options of the kernel distance; the defaults are those of KID."""

    form: Literal["subsets", "full"] = Field(
        "subsets", description="mean over drawn subsets, as published, or the whole sets at quadratic cost"
    )
    subsets: int = Field(100, ge=1, le=100_000, description="subsets that are drawn")
    subset_size: int = Field(1000, ge=3, description="samples of a subset, at most as many as there are")
    kernel: Literal["polynomial", "rbf"] = Field(
        "polynomial", description="(gamma x.y + coef)^degree, or exp(-|x - y|^2 / (2 sigma^2))"
    )
    degree: int = Field(3, ge=1, le=10, description="degree of the polynomial")
    gamma: float = Field(0.0, ge=0, description="factor of x.y (0: 1 / feature width)")
    coef: float = Field(1.0, ge=0, description="constant of the polynomial")
    sigma: float = Field(10.0, gt=0, description="width of the rbf kernel in units of the features")

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.distance_evaluators import KernelEvaluator

        return KernelEvaluator(self)


class EnergyConfig(Config):
    """The energy distance has no options."""

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.distance_evaluators import EnergyEvaluator

        return EnergyEvaluator()


class SlicedConfig(Config):
    """Options of the sliced Wasserstein distance."""

    groups: int = Field(20, ge=2, le=1000, description="groups of the jackknife that gives the interval")

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.distance_evaluators import SlicedEvaluator

        return SlicedEvaluator(self)


class InceptionScoreConfig(Config):
    """Options of the Inception Score."""

    splits: int = Field(10, ge=1, le=1000, description="parts that are scored and averaged")
    convention: Literal["balanced", "truncated", "ceil"] = Field(
        "balanced",
        description="parts that do not divide the count: as torch-fidelity, as dgm-eval, as torchmetrics",
    )

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.sample_evaluators import InceptionScoreEvaluator

        return InceptionScoreEvaluator(self)


class VendiConfig(Config):
    """Options of the Vendi score."""

    kernel: Literal["cosine", "linear", "rbf"] = Field(
        "cosine",
        description="similarity: cosine, inner product over its trace, or exp(-|x - y|^2 / (2 sigma^2))",
    )
    order: float = Field(
        1.0, gt=0, description="order q of the entropy; inf looks at the commonest kind alone"
    )
    sigma: float = Field(10.0, gt=0, description="width of the rbf kernel in units of the features")
    per_class: bool = Field(False, description="also the score of each class of the labels, beside the score")
    exact_up_to: int = Field(
        8192, ge=1, description="widest matrix to decompose; wider ones are estimated from landmark samples"
    )
    landmarks: int = Field(2048, ge=1, description="samples that span the low-rank estimate")

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.sample_evaluators import VendiEvaluator

        return VendiEvaluator(self)


class PrdcConfig(Config):
    """Options of precision, recall, density and coverage."""

    k: int = Field(5, ge=1, description="neighbours that span a ball")
    convention: Literal["published", "<", "<="] = Field(
        "published",
        description="whether a ball holds its rim; published: '<=' for precision and recall, else '<'",
    )
    distance: DistanceRef = Field(Component(name="euclidean"), description="distance of the balls")
    equal_counts: bool = Field(
        True, description="use as many real as generated samples, drawn with a fixed seed"
    )

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.neighbour_evaluators import PrdcEvaluator

        return PrdcEvaluator(self)


class RealismConfig(Config):
    """Options of the realism score."""

    k: int = Field(3, ge=1, description="neighbours that span a ball")
    distance: DistanceRef = Field(Component(name="euclidean"), description="distance of the balls")

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.neighbour_evaluators import RealismEvaluator

        return RealismEvaluator(self)


class AuthenticityConfig(Config):
    """Options of the authenticity."""

    distance: DistanceRef = Field(Component(name="euclidean"), description="distance to training samples")

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.neighbour_evaluators import AuthenticityEvaluator

        return AuthenticityEvaluator(self)


class CtConfig(Config):
    """Options of the data-copying statistic C_T."""

    distance: DistanceRef = Field(Component(name="euclidean"), description="distance to training samples")
    cells: int = Field(
        3, ge=1, le=10_000, description="k-means cells of the training data that are averaged over"
    )

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.neighbour_evaluators import CtEvaluator

        return CtEvaluator(self)


class CostConfig(Config):
    """Options of the cost of sampling."""

    samples: int = Field(64, ge=1, le=100_000, description="samples that are made to measure with")
    repeats: int = Field(3, ge=1, le=1000, description="how often; the median of the seconds counts")

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_metrics.cost import CostEvaluator

        return CostEvaluator(self)
