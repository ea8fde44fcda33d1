"""Points whose densities are known: one-dimensional mixtures and the two-dimensional fractal."""

from pathlib import Path

from genplug import DatasetSpec, GeneratorSpec, hookimpl, presets_from

_MLP = (
    "denoiser",
    "trainable",
    "class-conditional",
    "unconditional",
    "null-label",
    "feature-trainable",
)
_TINY = {"width": 16, "depth": 2, "sampler": {"name": "heun", "steps": 4}}


@hookimpl
def register_datasets():
    return [
        DatasetSpec(
            name="gaussians-1d",
            summary="two classes on a line, a Gaussian each, at a chosen distance",
            config="genplug_toy.config:Gaussians1dConfig",
            modality="points",
            tiny={"train": 40, "held_out": 40},
        ),
        DatasetSpec(
            name="fractal",
            summary="branching segments on the plane, one class or two, of known density",
            config="genplug_toy.config:FractalConfig",
            modality="points",
            tiny={"train": 40, "held_out": 40},
        ),
    ]


@hookimpl
def register_generators():
    return [
        GeneratorSpec(
            name="toy",
            preset="toy.fractal",
            summary="EDM-preconditioned MLP denoiser of points",
            config="genplug_toy.config:ToyConfig",
            modality="points",
            provides=_MLP,
            tiny=_TINY,
        ),
        GeneratorSpec(
            name="toy-flow",
            preset="toy-flow.fractal",
            summary="MLP velocity of a rectified flow of points",
            config="genplug_toy.config:ToyFlowConfig",
            modality="points",
            provides=_MLP,
            tiny=_TINY,
        ),
        GeneratorSpec(
            name="toy-exact",
            preset="toy-exact.fractal",
            summary="exact denoiser of gaussians-1d or fractal, no weights",
            config="genplug_toy.config:ToyExactConfig",
            modality="points",
            provides=("denoiser", "class-conditional", "unconditional"),
            tiny={"data": {"name": "gaussians-1d"}, "sampler": {"name": "heun", "steps": 4}},
        ),
    ]


@hookimpl
def register_presets():
    return presets_from(Path(__file__).with_name("registry.toml"))
