"""A third-party plugin in small: one fake for each case that the contract must carry.

It is "installed" by putting `tests/fakes` on the path, and uses nothing but genplug's public
names: what it can do, any stranger's package can.
"""

from genplug import (
    DatasetSpec,
    EvaluatorSpec,
    ExtractorSpec,
    GeneratorSpec,
    ObjectiveSpec,
    Preset,
    hookimpl,
)

_CONFIG = "genplug_fakes.config:"


@hookimpl
def register_generators():
    return [
        GeneratorSpec(
            name="fake-points",
            summary="2D points denoiser, an MLP",
            config=_CONFIG + "PointsConfig",
            modality="points",
            provides=("denoiser", "trainable", "class-conditional"),
        ),
        GeneratorSpec(
            name="fake-optional",
            summary="2D points denoiser, with labels that may be absent, or features in their place",
            config=_CONFIG + "OptionalConfig",
            modality="points",
            provides=("denoiser", "trainable", "class-conditional", "null-label", "feature-trainable"),
        ),
        GeneratorSpec(
            name="fake-tokens",
            summary="autoregressive model over 16 tokens, decoded to a 4x4 image",
            config=_CONFIG + "TokensConfig",
            tiny={"vocabulary": 2},
            provides=("likelihood", "trainable", "class-conditional"),
        ),
        GeneratorSpec(
            name="fake-latent",
            summary="denoiser of 2x2x4 latents behind a fixed linear codec",
            config=_CONFIG + "LatentConfig",
            provides=("denoiser", "trainable", "latent", "unconditional"),
        ),
        GeneratorSpec(
            name="fake-folder",
            summary="the images of a folder: finite, can only be postprocessed",
            config=_CONFIG + "FolderConfig",
        ),
        GeneratorSpec(
            name="fake-text",
            summary="solid images whose grey level is the prompt's length",
            config=_CONFIG + "TextConfig",
            provides=("text-conditional",),
        ),
    ]


@hookimpl
def register_objectives():
    return [
        ObjectiveSpec(
            name="fake-shift",
            summary="postprocess: any generator, samples moved by a constant",
            config=_CONFIG + "ShiftConfig",
            stage="postprocess",
            removes=("denoiser", "likelihood", "trainable"),
        ),
        ObjectiveSpec(
            name="fake-shrink",
            summary="guide: denoiser pulled towards the mean",
            config=_CONFIG + "ShrinkConfig",
            stage="guide",
            needs=("denoiser",),
            removes=("trainable", "feature-trainable", "null-label"),
            control=True,
        ),
        ObjectiveSpec(
            name="fake-contrast",
            summary="guide by a second generator: extrapolate away from it",
            config=_CONFIG + "ContrastConfig",
            stage="guide",
            needs=("denoiser",),
            adds=("guided",),
            removes=("trainable", "feature-trainable", "null-label"),
            inputs=("generator",),
        ),
        ObjectiveSpec(
            name="fake-recondition",
            summary="change the condition: class labels from features",
            config=_CONFIG + "ReconditionConfig",
            stage="guide",
            needs=("denoiser", "class-conditional"),
            adds=("feature-conditional",),
            removes=("class-conditional", "trainable", "feature-trainable", "null-label"),
        ),
    ]


@hookimpl
def register_datasets():
    return [
        DatasetSpec(
            name="fake-rings",
            summary="two classes of 2D points",
            config=_CONFIG + "RingsConfig",
            modality="points",
        ),
        DatasetSpec(
            name="fake-tiles", summary="4x4 grey images, two classes", config=_CONFIG + "TilesConfig"
        ),
    ]


@hookimpl
def register_extractors():
    return [
        ExtractorSpec(
            name="fake-mean",
            summary="the mean value",
            config=_CONFIG + "MeanConfig",
            modality="any",
            outputs=("mean",),
        ),
        ExtractorSpec(
            name="fake-linear",
            summary="a linear map with published weights",
            config=_CONFIG + "LinearConfig",
            modality="points",
            outputs=("features", "half", "squares"),
            argument="nonlinearity",
            preset="fake-linear.a",
            tiny={"weights": "none", "preset": "none"},
        ),
    ]


@hookimpl
def register_presets():
    yield Preset(
        name="fake-linear.a",
        kind="extractor",
        address="file:///nowhere/linear.pt",
        format="torch",
        licence="MIT",
        values={"width": 3},
    )


@hookimpl
def register_evaluators():
    return [
        EvaluatorSpec(
            name="fake-gap",
            summary="distance of the feature means",
            config=_CONFIG + "GapConfig",
            inputs=("samples", "features", "held_out"),
            scores={"gap": "lower"},
        ),
        EvaluatorSpec(
            name="fake-cost",
            summary="weights of the generator",
            config=_CONFIG + "CostConfig",
            inputs=("samples", "generators"),
            scores={"weights": "lower"},
        ),
    ]
