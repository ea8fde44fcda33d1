"""Training objectives: plain training, and Direct Discriminative Optimization (arXiv 2503.01103)."""

from genplug import ObjectiveSpec, hookimpl

_TINY_TRAIN = {"steps": 4, "batch_size": 8, "ema_halflife": 2.0}


@hookimpl
def register_objectives():
    return [
        ObjectiveSpec(
            name="pretrain",
            summary="plain training with the generator's own loss, from its weights or from scratch",
            config="genplug_ddo.config:PretrainConfig",
            stage="train",
            needs=("trainable",),
            inputs=("dataset", "labels"),
            tiny={"train": _TINY_TRAIN},
        ),
        ObjectiveSpec(
            name="ddo",
            summary="Direct Discriminative Optimization: the model as its own discriminator, by self-play",
            config="genplug_ddo.config:DdoConfig",
            stage="train",
            needs=("denoiser|likelihood", "trainable"),
            inputs=("dataset", "labels"),
            tiny={"train": _TINY_TRAIN, "rounds": 1, "pool": 16, "select_samples": 16, "select_blocks": 1},
        ),
    ]
