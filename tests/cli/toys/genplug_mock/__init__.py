"""A small plugin of every kind that the command line meets, as a third party would ship it."""

from pathlib import Path

import genplug
from genplug import (
    DatasetSpec,
    EvaluatorSpec,
    ExtractorSpec,
    GeneratorSpec,
    ObjectiveSpec,
    Preset,
)
from genplug.specs import Published


@genplug.hookimpl
def register_generators():
    config = "genplug_mock.config:"
    return [
        GeneratorSpec(
            name="toy-grey", summary="grey squares", config=f"{config}Grey", provides=("class-conditional",)
        ),
        GeneratorSpec(name="toy-points", summary="points", config=f"{config}Points", modality="points"),
        GeneratorSpec(name="toy-brittle", summary="does not import", config="genplug_mock.gone:Gone"),
    ]


@genplug.hookimpl
def register_objectives():
    return [
        ObjectiveSpec(
            name="toy-brighter",
            summary="adds light",
            config="genplug_mock.config:Brighter",
            stage="postprocess",
            needs=("class-conditional",),
        ),
        ObjectiveSpec(
            name="toy-train",
            summary="needs what grey squares lack",
            config="genplug_mock.config:Brighter",
            stage="train",
            needs=("denoiser|likelihood", "trainable"),
        ),
    ]


@genplug.hookimpl
def register_extractors():
    return [ExtractorSpec(name="toy-mean", summary="mean grey", config="genplug_mock.config:Mean")]


@genplug.hookimpl
def register_evaluators():
    return [
        EvaluatorSpec(
            name="toy-gap",
            summary="difference of means",
            config="genplug_mock.config:Gap",
            inputs=("samples", "features", "held_out"),
            scores={"toy-gap": "lower"},
        )
    ]


@genplug.hookimpl
def register_datasets():
    return [DatasetSpec(name="toy-data", summary="grey squares", config="genplug_mock.config:Data")]


@genplug.hookimpl
def register_recipes():
    return genplug.recipes_from(Path(__file__).with_name("recipes"))


@genplug.hookimpl
def register_presets():
    return [
        Preset(
            name="toy-grey.dark",
            summary="dark squares",
            values={"shade": 0.1},
            licence="CC0-1.0",
            published=(Published(score="FID", value=3.5, source="nobody, 2026"),),
        ),
        Preset(name="toy-grey.far", address="https://example.org/far.safetensors"),
    ]


@genplug.hookimpl
def register_commands(app):
    @app.command("toy-hello")
    def hello(name: str) -> None:
        """Greet somebody."""
        print(f"hello {name}")
