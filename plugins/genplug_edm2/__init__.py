"""EDM2: magnitude-preserving diffusion U-Nets, pixel and latent (Karras et al. 2024, arXiv 2312.02696)."""

from collections.abc import Iterable
from pathlib import Path

from genplug import GeneratorSpec, Preset, hookimpl, presets_from


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    return [
        GeneratorSpec(
            name="edm2",
            summary="EDM2 diffusion U-Net, sizes xxs to xxl or free, pixel or latent",
            config="genplug_edm2.config:Edm2Config",
            provides=(
                "denoiser",
                "trainable",
                "class-conditional",
                "null-label",
                "unconditional",
                "feature-trainable",
                "guided",
                "latent",
            ),
            tiny={
                "resolution": 8,
                "channels": 1,
                "num_classes": 4,
                "model_channels": 16,
                "channel_mult": [1, 2],
                "num_blocks": 1,
                "attn_resolutions": [4],
                "channels_per_head": 16,
                "logvar_channels": 16,
                "sampler": {"name": "heun", "steps": 4},
            },
        )
    ]


@hookimpl
def register_presets() -> Iterable[Preset]:
    return presets_from(Path(__file__).with_name("registry.toml"))
