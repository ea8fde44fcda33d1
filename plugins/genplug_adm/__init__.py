"""ADM: U-Net, noisy classifier, diffusion process and samplers of guided-diffusion (arXiv 2105.05233)."""

from genplug import GeneratorSpec, SamplerSpec, hookimpl


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    return [
        GeneratorSpec(
            name="adm",
            summary="ADM diffusion U-Net of discrete timesteps, pixels",
            config="genplug_adm.config:AdmConfig",
            provides=(
                "denoiser",
                "trainable",
                "class-conditional",
                "null-label",
                "unconditional",
                "feature-trainable",
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
                "diffusion_steps": 100,
                "sampler": {"name": "ddpm", "steps": 4},
            },
        )
    ]


@hookimpl
def register_samplers() -> list[SamplerSpec]:
    return [
        SamplerSpec(
            name="ddpm",
            summary="ancestral sampling over timesteps (DDPM) with a fixed variance",
            config="genplug_adm.config:AncestralConfig",
            tiny={"steps": 4},
        ),
        SamplerSpec(
            name="ddim",
            summary="DDIM over timesteps, from deterministic to ancestral",
            config="genplug_adm.config:DdimConfig",
            tiny={"steps": 4},
        ),
    ]
