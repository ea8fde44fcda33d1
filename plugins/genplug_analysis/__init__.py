"""Why a method works: trajectories, what leaves the manifold, how far samples move, log-ratios, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genplug import EvaluatorSpec, hookimpl, recipes_from

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genplug.specs import Recipe

_CONFIG = "genplug_analysis.config:"


@hookimpl
def register_evaluators() -> list[EvaluatorSpec]:
    return [*_of_generators(), *_of_points(), *_of_features()]


@hookimpl
def register_recipes() -> Iterable[Recipe]:
    return recipes_from(Path(__file__).with_name("recipes"))


def _of_generators() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="trajectories",
            summary="sampling on a line between classes: distance from the decision boundary, bends",
            config=_CONFIG + "TrajectoriesConfig",
            modality="points",
            inputs=("samples", "held_out", "generators"),
            scores={
                "margin": "higher",
                "wrong-side": "lower",
                "minimum-margin": "higher",
                "bend": "lower",
                "crossings": "lower",
                "spread": "higher",
            },
        ),
        EvaluatorSpec(
            name="displacement",
            summary="how far each sample of the base moves, by its distance to real samples and its margin",
            config=_CONFIG + "DisplacementConfig",
            modality="any",
            inputs=("samples", "held_out", "generators"),
            scores={"displacement": "lower"},
        ),
        EvaluatorSpec(
            name="likelihood-ratio",
            summary="the log-ratio of improved to base on real and on generated samples, as DDO estimates it",
            config=_CONFIG + "LikelihoodRatioConfig",
            modality="any",
            inputs=("samples", "held_out", "generators"),
            scores={
                "ratio-real": "higher",
                "ratio-generated": "lower",
                "ratio-spread": "lower",
                "ratio-accuracy": "higher",
            },
        ),
    ]


def _of_points() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="off-manifold",
            summary="share of points outside of where nearly all real ones lie, by density and by neighbours",
            config=_CONFIG + "OffManifoldConfig",
            modality="points",
            inputs=("samples", "held_out", "train"),
            scores={"off": "lower", "nn-distance": "lower"},
        ),
        EvaluatorSpec(
            name="wasserstein",
            summary="Wasserstein-2 distance of points, exact on a line, sliced in more dimensions; per class",
            config=_CONFIG + "WassersteinConfig",
            modality="points",
            inputs=("samples", "held_out"),
            scores={"wasserstein": "lower"},
        ),
        EvaluatorSpec(
            name="points-plot",
            summary="points per class over real ones, with the decision boundary; common histogram mass",
            config=_CONFIG + "PointsPlotConfig",
            modality="points",
            inputs=("samples", "held_out"),
            scores={"overlap": "higher"},
        ),
    ]


def _of_features() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="off-manifold-features",
            summary="share of samples farther from real ones than nearly all held-out ones, by features",
            config=_CONFIG + "OffManifoldFeaturesConfig",
            modality="any",
            inputs=("samples", "features", "held_out", "train"),
            scores={"off": "lower", "nn-distance": "lower"},
        ),
        EvaluatorSpec(
            name="feature-map",
            summary="generated samples on the two principal components of training features, per class",
            config=_CONFIG + "FeatureMapConfig",
            modality="any",
            inputs=("samples", "features", "held_out", "train"),
            scores={"centroid-ratio": 1.0, "separation-gap": 0.0},
        ),
    ]
