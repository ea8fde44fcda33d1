"""Options of the analysis evaluators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from genplug.config import Component, Config, DistanceRef

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_analysis.displacement import Displacement
    from genplug_analysis.feature_map import FeatureMap
    from genplug_analysis.likelihood_ratio import LikelihoodRatio
    from genplug_analysis.off_manifold import OffManifold
    from genplug_analysis.points_plot import PointsPlot
    from genplug_analysis.trajectories import Trajectories
    from genplug_analysis.wasserstein import Wasserstein

Count = Annotated[int, Field(ge=1, le=2**28)]


class TrajectoriesConfig(Config):
    """Options of the trajectories."""

    count: Count = Field(2000, description="trajectories, at most as many as there are samples")
    drawn: int = Field(60, ge=0, le=1000, description="trajectories in the plot")
    grid: int = Field(64, ge=3, le=10_000, description="noise levels, even in ln sigma, that bends are of")

    def build(self, run: Run) -> Trajectories:
        """Return the evaluator."""
        from genplug_analysis.trajectories import Trajectories

        return Trajectories(self)


class OffManifoldConfig(Config):
    """Options of the shares off the manifold."""

    outside: float = Field(
        0.01, gt=0, le=0.5, description="share of real held-out samples that counts as off the manifold too"
    )
    distance: DistanceRef = Field(Component(name="euclidean"), description="distance to the nearest real one")
    per_class: int = Field(
        4, ge=0, le=100_000, description="scores of each class too, where there are at most so many classes"
    )

    def build(self, run: Run) -> OffManifold:
        """Return the evaluator."""
        from genplug_analysis.off_manifold import OffManifold

        return OffManifold(self, of_features=False)


class OffManifoldFeaturesConfig(OffManifoldConfig):
    """Options of the share off the manifold by features."""

    def build(self, run: Run) -> OffManifold:
        """Return the evaluator."""
        from genplug_analysis.off_manifold import OffManifold

        return OffManifold(self, of_features=True)


class DisplacementConfig(Config):
    """Options of the displacement."""

    count: Count = Field(2000, description="pairs of samples, at most as many as there are samples")
    bins: int = Field(8, ge=2, le=100, description="equally large groups of samples that the curves show")
    outside: float = Field(
        0.01, gt=0, le=0.5, description="share of real samples that counts as far from the others too"
    )
    margin_sigma: float = Field(
        0.05,
        ge=0,
        allow_inf_nan=False,
        description="noise level at which the classes' densities give a margin, where they are known",
    )
    distance: DistanceRef = Field(Component(name="euclidean"), description="distance to the nearest real one")

    def build(self, run: Run) -> Displacement:
        """Return the evaluator."""
        from genplug_analysis.displacement import Displacement

        return Displacement(self)


class WassersteinConfig(Config):
    """Options of the Wasserstein distance."""

    directions: int = Field(
        64, ge=1, le=10_000, description="directions to slice along, in two dimensions and more"
    )
    most: int = Field(20_000, ge=2, description="points of each set and class; of more some are drawn")
    groups: int = Field(20, ge=2, le=1000, description="groups of the jackknife, if there are enough points")
    per_class: int = Field(
        4, ge=0, le=100_000, description="scores of each class too, where there are at most so many classes"
    )

    def build(self, run: Run) -> Wasserstein:
        """Return the evaluator."""
        from genplug_analysis.wasserstein import Wasserstein

        return Wasserstein(self)


class PointsPlotConfig(Config):
    """Options of the picture of points."""

    drawn: int = Field(600, ge=1, le=20_000, description="points of a class and set in a picture")
    cells: int = Field(24, ge=2, le=1000, description="cells of the histogram along each of two coordinates")
    groups: int = Field(20, ge=2, le=1000, description="groups of the jackknife, if there are enough points")

    def build(self, run: Run) -> PointsPlot:
        """Return the evaluator."""
        from genplug_analysis.points_plot import PointsPlot

        return PointsPlot(self)


class FeatureMapConfig(Config):
    """Options of the map of features."""

    drawn: int = Field(100, ge=1, le=20_000, description="samples of a class in the picture")

    def build(self, run: Run) -> FeatureMap:
        """Return the evaluator."""
        from genplug_analysis.feature_map import FeatureMap

        return FeatureMap(self)


class LikelihoodRatioConfig(Config):
    """Options of the log-ratio."""

    count: Count = Field(1000, description="samples of each kind, at most as many as there are")
    draws: int = Field(
        16, ge=1, le=10_000, description="noise levels per sample whose mean a denoiser's log-ratio is"
    )

    def build(self, run: Run) -> LikelihoodRatio:
        """Return the evaluator."""
        from genplug_analysis.likelihood_ratio import LikelihoodRatio

        return LikelihoodRatio(self)
