"""DiADM: a diffusion model conditioned on features of its training images, and checks for copies of them.

Dombrowski et al. 2025, "Image Generation Diversity Issues and How to Tame Them", arXiv 2411.16171, section 4.
"""

from collections.abc import Iterable
from pathlib import Path

from genplug import (
    EvaluatorSpec,
    ObjectiveSpec,
    Preset,
    hookimpl,
    presets_from,
    recipes_from,
)
from genplug.specs import Recipe

_CONFIG = "genplug_diadm.config:"
_NEEDED = ("denoiser", "feature-conditional")


@hookimpl
def register_objectives() -> list[ObjectiveSpec]:
    return [
        ObjectiveSpec(
            name="diadm",
            summary="a new network of the same kind, conditioned on features of training images (DiADM)",
            config=_CONFIG + "DiadmConfig",
            stage="train",
            needs=("denoiser", "feature-trainable"),
            adds=("feature-conditional", "null-label"),
            removes=("class-conditional", "unconditional"),
            inputs=("dataset", "extractor"),
            control=True,
            tiny={"extractor": "pixels", "train": {"steps": 4, "batch_size": 8}},
        ),
        ObjectiveSpec(
            name="feature-draw",
            summary="other features for a DiADM generator to be sampled with; nothing is trained",
            config=_CONFIG + "FeatureDrawConfig",
            stage="guide",
            needs=_NEEDED,
            inputs=("dataset", "extractor"),
        ),
    ]


@hookimpl
def register_evaluators() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="memorisation",
            summary="distance of samples to the nearest training sample, against that of held-out ones",
            config=_CONFIG + "MemorisationConfig",
            modality="any",
            inputs=("samples", "features", "held_out", "train"),
            scores={"nearest-ratio": 1.0, "copies": "lower"},
        )
    ]


@hookimpl
def register_presets() -> Iterable[Preset]:
    return presets_from(Path(__file__).with_name("registry.toml"))


@hookimpl
def register_recipes() -> Iterable[Recipe]:
    return recipes_from(Path(__file__).with_name("recipes"))
