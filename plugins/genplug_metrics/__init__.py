"""Scores from features: Frechet distance, precision, recall, density and coverage."""

from genplug import EvaluatorSpec, hookimpl


@hookimpl
def register_evaluators():
    return [
        EvaluatorSpec(
            name="frechet",
            summary="Frechet distance between Gaussians fitted to the features, float64",
            config="genplug_metrics.config:FrechetConfig",
            inputs=("samples", "features", "held_out"),
            scores={"fd": "lower"},
        ),
        EvaluatorSpec(
            name="prdc",
            summary="precision, recall, density and coverage from k-nearest-neighbour balls",
            config="genplug_metrics.config:PrdcConfig",
            inputs=("samples", "features", "held_out"),
            scores={"precision": "higher", "recall": "higher", "density": "higher", "coverage": "higher"},
            tiny={"k": 2},
        ),
    ]
