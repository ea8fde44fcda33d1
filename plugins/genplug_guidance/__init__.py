"""Guidance: classifier-free, by a classifier, by a worse model, by a discriminator, for realism."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from genplug import EvaluatorSpec, ObjectiveSpec, Preset, hookimpl, presets_from, recipes_from
from genplug.specs import Recipe

#: What guidance takes from a generator: a guided one cannot be trained.
_TRAINING = ("trainable", "feature-trainable", "null-label")
_TINY_TRAIN = {"steps": 4, "batch_size": 8, "ema_halflife": 2.0}


@hookimpl
def register_objectives() -> list[ObjectiveSpec]:
    return [
        ObjectiveSpec(
            name="cfg",
            summary="classifier-free guidance, away from the generator's own branch without labels",
            config="genplug_guidance.config:CfgConfig",
            stage="guide",
            needs=("denoiser", "class-conditional"),
            adds=("guided",),
            removes=_TRAINING,
            inputs=("dataset", "labels"),
            tiny={"train": _TINY_TRAIN},
        ),
        ObjectiveSpec(
            name="autoguidance",
            summary="guidance away from a worse model of the same kind: less trained, smaller, or both",
            config="genplug_guidance.config:AutoguidanceConfig",
            stage="guide",
            needs=("denoiser",),
            adds=("guided",),
            removes=_TRAINING,
            inputs=("dataset", "labels", "generator"),
            tiny={"train": _TINY_TRAIN},
        ),
        ObjectiveSpec(
            name="classifier-guidance",
            summary="guidance along the gradient of a classifier of noised samples",
            config="genplug_guidance.gradient_config:ClassifierGuidanceConfig",
            stage="guide",
            needs=("denoiser", "class-conditional|unconditional"),
            adds=("guided", "class-conditional"),
            removes=_TRAINING,
            inputs=("dataset", "labels"),
            control=True,
            tiny={"on": "conditional", "train": _TINY_TRAIN, "bins": 2, "force": True},
        ),
        ObjectiveSpec(
            name="discriminator-guidance",
            summary="guidance by a discriminator of real and generated samples: corrects the score",
            config="genplug_guidance.gradient_config:DiscriminatorGuidanceConfig",
            stage="guide",
            needs=("denoiser",),
            adds=("guided",),
            removes=_TRAINING,
            inputs=("dataset",),
            control=True,
            tiny={"train": _TINY_TRAIN, "bins": 2, "force": True},
        ),
        ObjectiveSpec(
            name="realism-guidance",
            summary="guidance towards what a classifier of real and generated samples takes for real",
            config="genplug_guidance.gradient_config:RealismGuidanceConfig",
            stage="guide",
            needs=("denoiser",),
            adds=("guided",),
            removes=_TRAINING,
            inputs=("dataset",),
            control=True,
            tiny={"train": _TINY_TRAIN, "bins": 1, "force": True},
        ),
    ]


@hookimpl
def register_evaluators() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="realism-judges",
            summary="what classifiers that guided nothing think: independent, freshly trained, and the guide",
            config="genplug_guidance.gradient_config:RealismJudgesConfig",
            modality="any",
            inputs=("samples", "held_out", "train", "generators"),
            scores={"fake-rate": "lower", "fresh-accuracy": 0.5},
            tiny={"train": {"steps": 4, "batch_size": 8}},
        )
    ]


@hookimpl
def register_recipes() -> Iterable[Recipe]:
    return recipes_from(Path(__file__).with_name("recipes"))


@hookimpl
def register_presets() -> Iterable[Preset]:
    return presets_from(Path(__file__).with_name("registry.toml"))
