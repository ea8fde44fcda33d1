"""Scores of sample sets: distances between sets, neighbourhoods, diversity, and what sampling costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genplug import EvaluatorSpec, hookimpl

if TYPE_CHECKING:
    import typer

_CONFIG = "genplug_metrics.config:"
_PAIR = ("samples", "features", "held_out")


@hookimpl
def register_evaluators() -> list[EvaluatorSpec]:
    return [*_of_whole_sets(), *_of_neighbourhoods(), *_of_samples()]


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from genplug_metrics.commands import statistics

    app.command("statistics")(statistics)


def _of_whole_sets() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="frechet",
            summary="Frechet distance of Gaussians fitted to the features, float64 (FID on FID Inception)",
            config=_CONFIG + "FrechetConfig",
            inputs=("samples", "features", "held_out|statistics"),
            scores={"fd": "lower"},
        ),
        EvaluatorSpec(
            name="fd-infinity",
            summary="Frechet distance extrapolated to infinitely many samples",
            config=_CONFIG + "FdInfinityConfig",
            inputs=_PAIR,
            scores={"fd-infinity": "lower"},
            tiny={"points": 5, "groups": 3},
        ),
        EvaluatorSpec(
            name="spatial-frechet",
            summary="Frechet distance of spatial features, which see layout (sFID)",
            config=_CONFIG + "SpatialFrechetConfig",
            inputs=("samples", "features", "held_out|statistics"),
            outputs=("spatial",),
            scores={"sfd": "lower"},
        ),
        EvaluatorSpec(
            name="kernel",
            summary="kernel distance, squared and unbiased (KID): of drawn subsets or of whole sets",
            config=_CONFIG + "KernelConfig",
            inputs=_PAIR,
            scores={"kd": "lower"},
            tiny={"subsets": 10, "subset_size": 40},
        ),
        EvaluatorSpec(
            name="energy",
            summary="energy distance of whole sets, unbiased: zero for equal distributions alone",
            config=_CONFIG + "EnergyConfig",
            inputs=_PAIR,
            scores={"energy": "lower"},
        ),
        EvaluatorSpec(
            name="sliced-wasserstein",
            summary="sliced Wasserstein-2 distance by its closed form for wide features",
            config=_CONFIG + "SlicedConfig",
            inputs=_PAIR,
            scores={"sw": "lower"},
        ),
    ]


def _of_neighbourhoods() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="prdc",
            summary="precision, recall, density and coverage from k-nearest-neighbour balls",
            config=_CONFIG + "PrdcConfig",
            inputs=_PAIR,
            scores={"precision": "higher", "recall": "higher", "density": "higher", "coverage": "higher"},
            tiny={"k": 2},
        ),
        EvaluatorSpec(
            name="realism",
            summary="how deep inside the real balls a typical generated sample lies",
            config=_CONFIG + "RealismConfig",
            inputs=_PAIR,
            scores={"realism": "higher"},
        ),
        EvaluatorSpec(
            name="authenticity",
            summary="share of samples that are no near copies of training data (AuthPct), against held-out",
            config=_CONFIG + "AuthenticityConfig",
            inputs=("samples", "features", "held_out", "train"),
            scores={"authenticity": "higher", "authenticity-gap": 0.0},
        ),
        EvaluatorSpec(
            name="ct",
            summary="data-copying test C_T: below 0 where samples are nearer to training data than real ones",
            config=_CONFIG + "CtConfig",
            inputs=("samples", "features", "held_out", "train"),
            scores={"ct": 0.0},
        ),
    ]


def _of_samples() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="inception-score",
            summary="Inception Score of a classifier's logits: sure of each sample, varied over all",
            config=_CONFIG + "InceptionScoreConfig",
            inputs=("samples", "features"),
            outputs=("logits",),
            scores={"inception-score": "higher"},
        ),
        EvaluatorSpec(
            name="vendi",
            summary="Vendi score: effective number of different samples, without a reference",
            config=_CONFIG + "VendiConfig",
            inputs=("samples", "features"),
            scores={"vendi": "higher"},
        ),
        EvaluatorSpec(
            name="cost",
            summary="parameters, network evaluations, seconds and memory of a sample",
            config=_CONFIG + "CostConfig",
            inputs=("samples", "generators"),
            scores={
                "parameters": "lower",
                "evaluations-per-image": "lower",
                "seconds-per-image": "lower",
                "megabytes-per-image": "lower",
            },
            measured=("seconds-per-image", "megabytes-per-image"),
            tiny={"samples": 8, "repeats": 2},
        ),
    ]
