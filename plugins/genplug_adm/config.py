"""Options of the `adm` generator and of the samplers of discrete-time diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from genplug.config import Component, Config, GeneratorConfig, SamplerRef

if TYPE_CHECKING:
    from genplug.denoiser import DenoiserGenerator
    from genplug.runtime import Run
    from genplug_adm.sampler import AncestralSampler, DdimSampler

Multiple = Annotated[float, Field(gt=0)]
Grid = Annotated[int, Field(ge=1)]


class StepConfig(Config):
    """Which timesteps a sampler visits."""

    steps: int = Field(
        250, ge=1, le=10_000, description="timesteps, at most those of a discrete-time network"
    )
    spacing: Literal["even", "ddim"] = Field(
        "even",
        description="even: from the first timestep to the last; ddim: at a whole stride from the first",
    )
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="schedule of 1000 timesteps for networks that have none of their own"
    )
    clip: bool = Field(False, description="clip the denoised x to [-1, 1]")

    def evaluations(self) -> int:
        """Return network evaluations per sample."""
        return self.steps


class AncestralConfig(StepConfig):
    """Ancestral sampling with a fixed variance."""

    variance: Literal["fixed-small", "fixed-large"] = Field(
        "fixed-small", description="noise of a step: the posterior's variance, or the larger beta_t"
    )

    def build(self, run: Run) -> AncestralSampler:
        """Return the sampler."""
        from genplug_adm.sampler import AncestralSampler

        return AncestralSampler(self)


class DdimConfig(StepConfig):
    """DDIM sampling."""

    steps: int = Field(25, ge=1, le=10_000, description="timesteps, at most those that the network knows")
    eta: float = Field(0.0, ge=0, le=1, description="0: deterministic; 1: as ancestral with fixed-small")

    def build(self, run: Run) -> DdimSampler:
        """Return the sampler."""
        from genplug_adm.sampler import DdimSampler

        return DdimSampler(self)


class AdmConfig(GeneratorConfig):
    """A U-Net of guided-diffusion with its schedule and sampler. Defaults are those of ImageNet-64."""

    resolution: int = Field(64, ge=4, description="side of the image in pixels")
    channels: Literal[1, 3] = Field(3, description="image channels")
    num_classes: int = Field(1000, ge=0, description="classes (0: unconditional)")
    unconditional: bool = Field(
        False, description="the weights of a class-conditional network were trained without labels too"
    )
    model_channels: int = Field(192, ge=8, description="base width")
    channel_mult: tuple[Multiple, ...] = Field(
        (1, 2, 3, 4), min_length=1, description="width of each level, as a multiple of the base width"
    )
    num_blocks: int = Field(3, ge=1, description="residual blocks per level")
    attn_resolutions: tuple[Grid, ...] = Field((32, 16, 8), description="resolutions with self-attention")
    channels_per_head: int = Field(
        64, ge=0, description="channels of an attention head (0: num_heads says how many heads)"
    )
    num_heads: int = Field(4, ge=1, description="attention heads, where channels_per_head is 0")
    new_attention_order: bool = Field(True, description="attention channels are ordered (q/k/v, head)")
    scale_shift_norm: bool = Field(True, description="the embedding scales and shifts, instead of adding")
    resblock_updown: bool = Field(True, description="residual blocks change the grid, not single layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in training")
    checkpointing: bool = Field(False, description="compute activations twice in training, to save memory")
    fp16: bool = Field(True, description="half precision inside the network when it samples on accelerators")
    learn_sigma: bool = Field(True, description="the network predicts the variances of steps too")
    schedule: Literal["linear", "cosine"] = Field("cosine", description="noise schedule")
    diffusion_steps: int = Field(1000, ge=25, le=100_000, description="timesteps that the network knows")
    rescale_timesteps: bool = Field(False, description="the network gets timesteps scaled to 1000")
    fractional: bool = Field(False, description="levels between timesteps are asked for at fractional ones")
    clip: bool = Field(True, description="clip the denoised image to [-1, 1], as published sampling does")
    sigma_data: float = Field(0.5, gt=0, description="standard deviation of x")
    sampler: SamplerRef = Field(Component(name="ddpm"), description="sampler and its options")

    @model_validator(mode="after")
    def _grids_fit(self) -> AdmConfig:
        halvings = len(self.channel_mult) - 1
        if self.resolution % 2**halvings:
            raise ValueError(f"a resolution of {self.resolution} does not halve {halvings} times")
        widths = [int(multiple * self.model_channels) for multiple in self.channel_mult]
        attended = {widths[-1], *(widths[factor.bit_length() - 1] for factor in self._attended())}
        for width in sorted(attended):
            if width % (self.channels_per_head or self.num_heads):
                what = (
                    f"heads of {self.channels_per_head}"
                    if self.channels_per_head
                    else f"{self.num_heads} heads"
                )
                raise ValueError(f"a level with attention has {width} channels, which are no {what}")
        return self

    def _attended(self) -> list[int]:
        """Return by what factors the grids with attention are smaller than the image."""
        factors = [2**level for level in range(len(self.channel_mult))]
        return [factor for factor in factors if self.resolution // factor in self.attn_resolutions]

    def provides(self) -> frozenset[str]:
        """Return this configuration's capabilities."""
        words = {"denoiser", "trainable", "feature-trainable"}
        words |= {"class-conditional", "null-label"} if self.num_classes else {"unconditional"}
        return frozenset(words | ({"unconditional"} if self.unconditional else set()))

    def x_shape(self) -> tuple[int, ...]:
        """Return CHW of x."""
        return (self.channels, self.resolution, self.resolution)

    def network(self) -> dict[str, Any]:
        """Return the arguments of `unet.UNetModel`, by the published names."""
        return {
            "image_size": self.resolution,
            "in_channels": self.channels,
            "model_channels": self.model_channels,
            "out_channels": self.channels * (2 if self.learn_sigma else 1),
            "num_res_blocks": self.num_blocks,
            "attention_resolutions": self._attended(),
            "dropout": self.dropout,
            "channel_mult": list(self.channel_mult),
            "num_classes": self.num_classes or None,
            "use_checkpoint": self.checkpointing,
            "use_fp16": self.fp16,
            "num_heads": self.num_heads,
            "num_head_channels": self.channels_per_head or -1,
            "use_scale_shift_norm": self.scale_shift_norm,
            "resblock_updown": self.resblock_updown,
            "use_new_attention_order": self.new_attention_order,
        }

    def build(self, run: Run) -> DenoiserGenerator:
        """Build the generator with random weights."""
        from genplug_adm.generator import build

        return build(self, run)
