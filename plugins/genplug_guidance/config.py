"""Options of guidance: what all objectives of this package share, and those of `cfg` and `autoguidance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from genplug.config import Config, Needs, TrainConfig

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_guidance.autoguidance import Autoguidance
    from genplug_guidance.cfg import Cfg

Share = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class GuidanceConfig(Config):
    """How strong guidance is at each noise level."""

    scale: float = Field(
        2.0, allow_inf_nan=False, description="guidance scale in the given convention (edm: 1 is none)"
    )
    sigma_low: float = Field(0.0, ge=0, description="no guidance below this noise level")
    sigma_high: float = Field(float("inf"), gt=0, description="no guidance above this noise level")
    schedule: Literal["constant", "linear", "cosine"] | tuple[Share, ...] = Field(
        "constant",
        description="share of the scale's effect at each step of the sampler: 1 throughout, rising from 0 to "
        "1 along a line or a cosine, or a list with one share a step (0: none, 1: all of it)",
    )
    convention: Literal["edm", "ho", "ddo", "var"] = Field(
        "edm",
        description="what `scale` means: edm: w in G + w (D - G); ho, ddo: w in (1 + w) D - w G; var: the "
        "last value of VAR's ramp, (1 + t) D - t G with t rising from 0 along a line",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> GuidanceConfig:
        if self.sigma_low > self.sigma_high:
            raise ValueError("sigma_low is above sigma_high: no noise level would be guided")
        if self.convention == "var" and self.schedule != "constant":
            raise ValueError("convention 'var' is a ramp by itself; leave schedule out")
        if self.schedule == ():
            raise ValueError("schedule is an empty list; give one share per step of the sampler")
        return self


class CfgConfig(GuidanceConfig):
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598).

    A generator without an unconditional branch is fine-tuned with dropped labels; that copy is the guide,
    and the generator itself stays as it is.
    """

    guide: Annotated[str | None, Needs(("denoiser", "unconditional"))] = Field(
        None, description="generator to be asked without condition (default: the generator itself)"
    )
    label_dropout: float = Field(0.1, gt=0, le=1, description="share of labels dropped in fine-tuning")
    train: TrainConfig = Field(
        TrainConfig(steps=2000, cooldown=0.5, ema_halflife=100.0),
        description="the fine-tuning with dropped labels, where there is no unconditional branch yet",
    )

    def needs(self) -> tuple[str, ...]:
        """Return what the generator must have where it is its own guide."""
        if self.guide is not None:
            return ()
        return ("unconditional|null-label", "unconditional|trainable")

    def cost(self) -> dict[str, Any]:
        """Return what guidance takes; training only where there is no unconditional branch."""
        cost: dict[str, Any] = {"evaluations": "twice as many"}
        if self.guide is None:
            images = self.train.steps * self.train.batch_size
            cost["training_images"] = f"{images}, none if the generator is unconditional too"
        return cost

    def build(self, run: Run) -> Cfg:
        """Return the objective."""
        from genplug_guidance.cfg import Cfg

        return Cfg(self)


class AutoguidanceConfig(GuidanceConfig):
    """Autoguidance (Karras et al. 2024, arXiv 2406.02507): the guide is a worse model of the same kind.

    By default it is the generator's own configuration trained from random weights for `train`: less than
    the generator was, and smaller if `guide_options` say so.
    """

    guide: Annotated[str | None, Needs(("denoiser",))] = Field(
        None, description="the guide: a preset, a run or a component (default: one is made)"
    )
    guide_options: dict[str, Any] = Field(
        {},
        description="options in which the guide that is made differs from the generator, such as its width",
    )
    guide_weights: str | None = Field(
        None,
        description="file of the weights of the guide that is made, such as an earlier snapshot or another "
        "average from a run (default: it is trained)",
    )
    train: TrainConfig = Field(
        TrainConfig(steps=500, ema_halflife=25.0), description="the training of the guide that is made"
    )

    @model_validator(mode="after")
    def _guide_is_one(self) -> AutoguidanceConfig:
        if self.guide is not None and (self.guide_options or self.guide_weights):
            raise ValueError("a guide that is named has its own options and weights; leave guide_* out")
        return self

    def cost(self) -> dict[str, Any]:
        """Return what guidance takes."""
        trained = self.guide is None and self.guide_weights is None
        images = {"training_images": self.train.steps * self.train.batch_size} if trained else {}
        return {"evaluations": "twice as many", **images}

    def build(self, run: Run) -> Autoguidance:
        """Return the objective."""
        from genplug_guidance.autoguidance import Autoguidance, made_of

        made = made_of(run, self.guide_options) if self.guide is None else None
        return Autoguidance(self, made)
