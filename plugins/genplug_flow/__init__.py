"""Flow-matching postprocessing: generated samples moved towards real neighbours (arXiv 2503.10638)."""

from pathlib import Path

from genplug import ObjectiveSpec, Preset, hookimpl, presets_from, recipes_from
from genplug.specs import Recipe


@hookimpl
def register_presets() -> tuple[Preset, ...]:
    return presets_from(Path(__file__).with_name("registry.toml"))


@hookimpl
def register_recipes() -> tuple[Recipe, ...]:
    return recipes_from(Path(__file__).with_name("recipes"))


@hookimpl
def register_objectives() -> list[ObjectiveSpec]:
    return [
        ObjectiveSpec(
            name="flow",
            summary="postprocess any generator: a flow moves samples towards their nearest real ones",
            config="genplug_flow.config:FlowConfig",
            stage="postprocess",
            removes=(
                "denoiser",
                "likelihood",
                "trainable",
                "unconditional",
                "null-label",
                "feature-trainable",
            ),
            inputs=("dataset", "extractor"),
            control=True,
            tiny={
                "pool": 16,
                "k": 2,
                "steps": 4,
                "mlp": {"width": 16, "depth": 1},
                "unet": {"channels": 8, "blocks": 1},
                "train": {"steps": 4, "batch_size": 8},
            },
        )
    ]
