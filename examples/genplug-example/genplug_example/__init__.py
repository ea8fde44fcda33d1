"""The tutorial's plugin: a generator, an evaluator, a command and presets, for the embedded digits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from genplug import EvaluatorSpec, GeneratorSpec, Preset, hookimpl, presets_from

if TYPE_CHECKING:
    import typer


@hookimpl
def register_generators() -> Iterable[GeneratorSpec]:
    return [
        GeneratorSpec(
            name="example-mlp",
            summary="class-conditional denoiser of small images, an MLP with EDM preconditioning",
            config="genplug_example.config:MlpConfig",
            provides=("denoiser", "trainable", "class-conditional"),
            tiny={"width": 16, "num_classes": 4, "sampler": {"name": "heun", "steps": 4}},
        )
    ]


@hookimpl
def register_evaluators() -> Iterable[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="example-ink",
            summary="how much more ink generated images have than held-out ones, in grey levels",
            config="genplug_example.config:InkConfig",
            modality="image",
            inputs=("samples", "held_out"),
            scores={"ink": 0.0},  # nearer to 0 is better
        )
    ]


@hookimpl
def register_presets() -> Iterable[Preset]:
    return presets_from(Path(__file__).with_name("registry.toml"))


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from genplug_example.gallery import gallery

    app.command("example-gallery")(gallery)
