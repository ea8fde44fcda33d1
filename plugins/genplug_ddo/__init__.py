"""Training objectives: plain training, and likelihood ratios as discriminators (DDO, CCA)."""

from collections.abc import Iterable
from pathlib import Path

from genplug import ObjectiveSpec, Preset, hookimpl, presets_from, recipes_from
from genplug.specs import Recipe

_CONFIG = "genplug_ddo.config:"
_TINY_TRAIN = {"steps": 4, "batch_size": 8, "ema_halflife": 2.0}


@hookimpl
def register_objectives() -> list[ObjectiveSpec]:
    return [
        ObjectiveSpec(
            name="pretrain",
            summary="plain training with the generator's own loss, from its weights or from scratch",
            config=_CONFIG + "PretrainConfig",
            stage="train",
            needs=("trainable",),
            inputs=("dataset", "labels"),
            tiny={"train": _TINY_TRAIN},
        ),
        ObjectiveSpec(
            name="ddo",
            summary="Direct Discriminative Optimization: the model as its own discriminator, by self-play",
            config=_CONFIG + "DdoConfig",
            stage="train",
            needs=("denoiser|likelihood", "trainable"),
            inputs=("dataset", "labels"),
            control=True,
            tiny={"train": _TINY_TRAIN, "rounds": 1, "pool": 16, "select_samples": 16, "select_blocks": 1},
        ),
        ObjectiveSpec(
            name="cca",
            summary="Condition Contrastive Alignment: the same samples with wrong labels as negatives",
            config=_CONFIG + "CcaConfig",
            stage="train",
            needs=("denoiser|likelihood", "trainable", "class-conditional"),
            inputs=("dataset", "labels"),
            control=True,
            tiny={"train": {**_TINY_TRAIN, "lr": 1e-3}},
        ),
    ]


@hookimpl
def register_presets() -> Iterable[Preset]:
    return presets_from(Path(__file__).with_name("registry.toml"))


@hookimpl
def register_recipes() -> Iterable[Recipe]:
    return recipes_from(Path(__file__).with_name("recipes"))
