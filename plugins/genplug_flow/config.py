"""Options of `flow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from genplug.config import Component, Config, DistanceRef, ExtractorName, Options, TrainConfig

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_flow.objective import Flow

Width = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Factor = Annotated[int, Field(ge=1, le=1024)]


class MlpConfig(Options):
    """The velocity network of points."""

    width: int = Field(128, ge=1, le=100_000, description="units of a hidden layer")
    depth: int = Field(3, ge=1, le=1000, description="hidden layers")
    octaves: int = Field(
        4, ge=0, le=16, description="Fourier features of x, sin and cos of pi 2^j x each; they set the detail"
    )


class UnetConfig(Options):
    """The velocity network of images: a U-Net of the ADM family."""

    channels: int = Field(0, ge=0, le=4096, description="base width (0: 32 up to 28 pixels, then 64)")
    channel_mult: tuple[Width, ...] = Field(
        (), description="width of each level over the base's (empty: by the size of the image)"
    )
    blocks: int = Field(2, ge=1, le=64, description="residual blocks per level")
    attention: tuple[Factor, ...] = Field(
        (), description="attention where the image is this many times smaller, besides the middle"
    )
    head_channels: int = Field(-1, ge=-1, le=4096, description="channels of a head (-1: one head)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in training")


class FlowConfig(Config):
    """A rectified flow from generated samples to real neighbours (arXiv 2503.10638, section 3)."""

    extractor: ExtractorName = Field(
        "pixels", description="features that rank real neighbours, as dinov2.b-reg@patch-mean, vae, pixels"
    )
    distance: DistanceRef = Field(Component(name="euclidean"), description="distance of these features")
    k: int = Field(
        0,
        ge=0,
        le=10_000,
        description="real neighbours, one of which is drawn each step (0: images 20, points 5)",
    )
    within_class: bool | None = Field(
        None, description="search among real samples of the same class (default: where both have labels)"
    )
    target: Literal["neighbour", "random"] = Field(
        "neighbour", description="random: any real sample of the class, the control without neighbours"
    )
    pool: int = Field(-1, ge=-1, description="generated samples to train on (-1: as many as real ones)")
    scales: tuple[Width, ...] = Field(
        (), description="guidance scales that share the pool equally (empty: the generator's own)"
    )
    network: Literal["auto", "mlp", "unet"] = Field("auto", description="auto: mlp for points, else unet")
    mlp: MlpConfig = Field(MlpConfig(), description="the network of points")
    unet: UnetConfig = Field(UnetConfig(), description="the network of images")
    train: TrainConfig = Field(
        TrainConfig(steps=3000, batch_size=256, cooldown=1.0), description="the training loop"
    )
    solver: Literal["euler", "midpoint", "heun", "dopri5"] = Field(
        "midpoint", description="dopri5 chooses its steps for each sample, the others take equal ones"
    )
    steps: int = Field(20, ge=1, le=100_000, description="steps of euler, midpoint and heun")
    rtol: float = Field(1e-5, gt=0, le=1, description="relative error of a dopri5 step")
    atol: float = Field(1e-5, gt=0, le=1, description="absolute error of a dopri5 step")
    trained: str = Field("", description="a flow trained before, as RUN/generator/1-flow: used as it is")

    @model_validator(mode="after")
    def _checked(self) -> FlowConfig:
        if self.pool == 0 or 0 < self.pool < len(self.scales):
            raise ValueError("pool needs a sample at least, and one for each of scales")
        return self

    def needs(self) -> tuple[str, ...]:
        """Return what the base must provide: a guidance scale, where several are to be trained on."""
        return ("guided",) if self.scales else ()

    def neighbours(self, modality: str) -> int:
        """Return k."""
        return self.k or (20 if modality == "image" else 5)

    def cost(self) -> dict[str, Any]:
        """Return what the training takes, and evaluations of the velocity per sample."""
        per_step = {"euler": 1, "midpoint": 2, "heun": 2}.get(self.solver)
        return {
            "training_images": 0 if self.trained else self.train.steps * self.train.batch_size,
            "pool_samples": 0 if self.trained else self.pool if self.pool > 0 else "data",
            "flow_evaluations_per_sample": per_step * self.steps if per_step else "as dopri5 needs",
        }

    def build(self, run: Run) -> Flow:
        """Return the objective."""
        from genplug_flow.objective import Flow

        return Flow(self)
