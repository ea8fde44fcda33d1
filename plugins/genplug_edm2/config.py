"""Options of an EDM2 generator: network, noise levels, sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from genplug.config import Component, GeneratorConfig, Needs, SamplerRef

if TYPE_CHECKING:
    from genplug.denoiser import DenoiserGenerator
    from genplug.runtime import Run

#: Width of the first level in the published sizes (Karras et al. 2024).
SIZES = {"xxs": 64, "xs": 128, "s": 192, "m": 256, "l": 320, "xl": 384, "xxl": 448}
LATENT_FACTOR = 8


class Edm2Config(GeneratorConfig):
    """An EDM2 network with its noise levels and sampler. Defaults are those of ImageNet-64."""

    size: Literal["xxs", "xs", "s", "m", "l", "xl", "xxl"] = Field("s", description="published width")
    model_channels: int = Field(0, ge=0, description="width of the first level (0: that of `size`)")
    resolution: int = Field(64, ge=4, description="x resolution: pixels, or latent cells")
    channels: int = Field(3, ge=1, description="x channels: 1 or 3 for pixels, 4 for latents")
    num_classes: int = Field(1000, ge=0, description="classes (0: unconditional)")
    unconditional: bool = Field(
        False, description="the weights of a class-conditional network were trained without labels too"
    )
    latent: bool = Field(False, description="x is a latent of the Stable Diffusion autoencoder")
    channel_mult: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1, description="width of each level")
    channel_mult_noise: int | None = Field(
        None, ge=1, description="width of the noise embedding (channel_mult[0])"
    )
    channel_mult_emb: int | None = Field(None, ge=1, description="width of the embedding (the largest width)")
    num_blocks: int = Field(3, ge=1, description="residual blocks per level")
    attn_resolutions: tuple[int, ...] = Field((16, 8), description="resolutions with self-attention")
    channels_per_head: int = Field(64, ge=1, description="channels of an attention head")
    label_balance: float = Field(0.5, ge=0, le=1, description="weight of the label in the embedding")
    concat_balance: float = Field(0.5, ge=0, le=1, description="weight of the skip connection")
    res_balance: float = Field(0.3, ge=0, le=1, description="weight of the residual branch")
    attn_balance: float = Field(0.3, ge=0, le=1, description="weight of the attention branch")
    clip_act: float = Field(256.0, gt=0, description="activations are clipped to this")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in training")
    logvar_channels: int = Field(128, ge=2, description="width of the learned uncertainty")
    fp16: bool = Field(True, description="half precision inside the network when it samples on accelerators")
    sigma_data: float = Field(0.5, gt=0, description="standard deviation of x")
    sigma_min: float = Field(0.002, gt=0, description="lowest noise level")
    sigma_max: float = Field(80.0, gt=0, description="highest noise level")
    log_mean: float = Field(-0.8, allow_inf_nan=False, description="mean of ln sigma in training (P_mean)")
    log_std: float = Field(1.6, gt=0, description="standard deviation of ln sigma in training (P_std)")
    sampler: SamplerRef = Field(Component(name="heun"), description="sampler and its options")
    guidance: float | None = Field(
        None, allow_inf_nan=False, description="D = guide + guidance (D - guide); 1: as without a guide"
    )
    guide: Annotated[str | None, Needs(("denoiser",))] = Field(
        None, description="generator to be guided away from, with x of the same kind"
    )

    @field_validator("guide")
    @classmethod
    def _guided_or_not(cls, guide: str | None, info: ValidationInfo) -> str | None:
        """Refuse a guide without guidance and the reverse; at guidance 1 there is no guide to load."""
        guidance = info.data.get("guidance")
        if guide and guidance is None:
            raise ValueError("has no effect without guidance; set guidance too")
        if not guide and guidance not in (None, 1):
            raise ValueError(f"guidance {guidance:g} needs one: a preset or a run")
        return None if guidance == 1 else guide

    def provides(self) -> frozenset[str]:
        """Return this configuration's capabilities."""
        words = {"denoiser"} | ({"latent"} if self.latent else set())
        words |= {"class-conditional"} if self.num_classes else {"unconditional"}
        words |= {"unconditional"} if self.unconditional else set()
        if self.guide:
            return frozenset(words | {"guided"})
        return frozenset(
            words | {"trainable", "feature-trainable"} | ({"null-label"} if self.num_classes else set())
        )

    def x_shape(self) -> tuple[int, ...]:
        """Return CHW of x."""
        return (self.channels, self.resolution, self.resolution)

    def sample_shape(self) -> tuple[int, ...]:
        """Return CHW of an image."""
        if not self.latent:
            return self.x_shape()
        return (3, self.resolution * LATENT_FACTOR, self.resolution * LATENT_FACTOR)

    def network(self) -> dict[str, Any]:
        """Return the arguments of `network.Precond`, by the published names."""
        same = (
            "channel_mult_noise",
            "channel_mult_emb",
            "num_blocks",
            "channels_per_head",
            "label_balance",
            "concat_balance",
            "res_balance",
            "attn_balance",
            "clip_act",
            "dropout",
            "sigma_data",
            "logvar_channels",
        )
        return {name: getattr(self, name) for name in same} | {
            "img_resolution": self.resolution,
            "img_channels": self.channels,
            "label_dim": self.num_classes,
            "use_fp16": self.fp16,
            "model_channels": self.model_channels or SIZES[self.size],
            "channel_mult": list(self.channel_mult),
            "attn_resolutions": list(self.attn_resolutions),
        }

    def build(self, run: Run) -> DenoiserGenerator:
        """Build the generator with random weights; a guide comes with its own."""
        from genplug_edm2.generator import build

        return build(self, run)
