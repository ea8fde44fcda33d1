"""Options of guidance by gradients: classifiers of noised samples, their training, how they act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from genplug.config import Config, Options, TrainConfig
from genplug_guidance.config import GuidanceConfig

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_guidance.classifier_guidance import ClassifierGuidance
    from genplug_guidance.discriminator import DiscriminatorGuidance
    from genplug_guidance.realism import RealismGuidance
    from genplug_guidance.realism_judges import RealismJudges

Sigma = Annotated[float, Field(gt=0)]
Tau = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[int, Field(ge=1)]


class NetworkConfig(Options):
    """A classifier of noised x."""

    kind: Literal["auto", "linear", "mlp", "cnn", "unet"] = Field(
        "auto",
        description="linear: one layer on (x, ln sigma), as in arXiv 2503.10638; mlp; cnn: small, with FiLM; "
        "unet: ADM's encoder with attention pooling; auto: mlp for points, cnn below 32 pixels, else unet",
    )
    width: int = Field(
        0, ge=0, description="hidden units or channels of the first level (0: 128; 64 for cnn)"
    )
    depth: int = Field(
        0,
        ge=0,
        description="hidden layers, or blocks per level (0: mlp 3, cnn 1, unet 4 up to 64 pixels, else 2)",
    )
    octaves: int = Field(
        0, ge=0, le=16, description="mlp: sines and cosines of pi 2^j x for j below this, for fine structure"
    )
    attention: tuple[Factor, ...] = Field(
        (32, 16, 8), description="unet: grids with self-attention, in cells a side"
    )
    noise_schedule: Literal["auto", "linear", "cosine"] = Field(
        "auto",
        description="unet: schedule whose timestep stands for sigma (auto: as ADM, cosine at 64 pixels)",
    )
    timesteps: int = Field(1000, ge=1, description="unet: timesteps of that schedule")
    features: str = Field(
        "",
        description="unet: file of a published ADM classifier; what is trained sees the features of its "
        "encoder, which stays as it is, instead of x (discriminator guidance)",
    )
    features_width: int = Field(128, ge=1, description="unet: channels of that classifier's first level")

    @model_validator(mode="after")
    def _features_are_used(self) -> NetworkConfig:
        if self.features and self.kind not in ("auto", "unet"):
            raise ValueError(f"features are for kind unet, not {self.kind}")
        return self


_TRAIN = TrainConfig(steps=2000, batch_size=256, cooldown=1.0)


class ClassifierConfig(GuidanceConfig):
    """Guidance by the gradient of a trained classifier, which the objective trains itself."""

    scale: float = Field(
        1.0, allow_inf_nan=False, description="s in D + s sigma^2 grad: 0 is none (convention edm: w = 1 + s)"
    )
    convention: Literal["ho", "edm"] = Field(
        "ho", description="what `scale` means: ho: s, where 0 is none; edm: w = 1 + s, where 1 is none"
    )
    network: NetworkConfig = Field(NetworkConfig(), description="the classifier")
    train: TrainConfig = Field(_TRAIN, description="the classifier's training loop")
    levels: Literal["generator", "uniform", "vp"] = Field(
        "generator",
        description="noise levels in training: as the generator was trained; uniform in ln sigma over its "
        "range; vp: discriminator guidance's importance sampling, uniform in ln sigma from 0.001 to 152",
    )
    level_range: tuple[Sigma, Sigma] | None = Field(
        None, description="lowest and highest sigma of uniform levels (default: the generator's range)"
    )
    held_out: float = Field(
        0.2, gt=0, lt=1, description="share of the training data kept to measure the classifier's accuracy"
    )
    bins: int = Field(12, ge=1, le=100, description="noise bins, equal in ln sigma, in which it is measured")
    force: bool = Field(False, description="guide even by a classifier that is at chance on held-out rows")

    @model_validator(mode="after")
    def _range_is_used(self) -> ClassifierConfig:
        if self.level_range is not None:
            if self.levels != "uniform":
                raise ValueError("level_range needs levels = uniform")
            if self.level_range[0] >= self.level_range[1]:
                raise ValueError("level_range must rise")
        return self

    def cost(self) -> dict[str, Any]:
        """Return what the classifier's training takes."""
        return {"training_images": self.train.steps * self.train.batch_size}


class ClassifierGuidanceConfig(ClassifierConfig):
    """Guidance towards the class by a classifier of noised x (arXiv 2105.05233)."""

    on: Literal["unconditional", "conditional"] = Field(
        "unconditional",
        description="what is guided: the branch without labels, D_u + s sigma^2 grad ln p(c | x), or the "
        "class-conditional model, as ADM does",
    )
    classifier: str = Field(
        "train",
        min_length=1,
        description="train: trained here; exact: the posterior of a data set with a known density; else "
        "a file with weights of an ADM classifier (objective.network says which)",
    )

    def needs(self) -> tuple[str, ...]:
        """Return what the guided branch takes."""
        return ("unconditional",) if self.on == "unconditional" else ("class-conditional",)

    def adds(self) -> tuple[str, ...]:
        """Return what the classifier makes of a model without labels."""
        return ("class-conditional",)

    def cost(self) -> dict[str, Any]:
        """Return what the classifier's training takes, if there is any."""
        return super().cost() if self.classifier == "train" else {}

    def build(self, run: Run) -> ClassifierGuidance:
        """Return the objective."""
        from genplug_guidance.classifier_guidance import ClassifierGuidance

        return ClassifierGuidance(self)


class RealFakeConfig(ClassifierConfig):
    """Guidance by a classifier that tells real data from the generator's samples."""

    target: Literal["log_prob", "logit"] = Field(
        "log_prob",
        description="log_prob: grad ln d, which ends where a sample looks real; logit: grad ln(d / (1 - d)), "
        "the correction of the score by ln(data / generator)",
    )
    pool: int = Field(-1, ge=-1, description="generated samples it is trained on (-1: as many as real ones)")
    reencode: bool = Field(
        True,
        description="decode and encode generated samples again (grey levels rounded as the data's), so that "
        "the way they were stored does not tell them from real ones",
    )
    per_class: bool = Field(
        False, description="a class-conditional classifier: one logit for each class, the label's is taken"
    )

    @model_validator(mode="after")
    def _pool_is_there(self) -> RealFakeConfig:
        if self.pool == 0:
            raise ValueError("a real/fake classifier needs generated samples")
        return self

    def needs(self) -> tuple[str, ...]:
        """Return what one logit for each class takes."""
        return ("class-conditional",) if self.per_class else ()

    def cost(self) -> dict[str, Any]:
        """Return what training takes."""
        pool = "data" if self.pool < 0 else self.pool
        return super().cost() | {"reference_samples": pool}


class DiscriminatorGuidanceConfig(RealFakeConfig):
    """Discriminator guidance (Kim et al. 2023, arXiv 2211.17091)."""

    scale: float | None = Field(  # type: ignore[assignment]
        None,
        allow_inf_nan=False,
        description="s in D + s sigma^2 grad logit: 0 is none (default: 1; published, unconditional: 2)",
    )
    target: Literal["log_prob", "logit"] = Field("logit", description="logit (the method's) or log_prob")
    published: bool = Field(
        False,
        description="sample as published: Heun steps of its own, guided in the first-order evaluation and "
        "not in the correction; without it any sampler, guided in every evaluation",
    )
    boosting: bool | None = Field(
        None,
        description="published: rows with a negative log-ratio get twice the guidance every 2nd step and "
        "S_churn = 4 every 5th (default: if the generator is class-conditional)",
    )
    steps: int = Field(18, ge=2, description="published: Heun steps")
    tau: tuple[Tau, Tau] = Field(
        (0.01, 1.0), description="published: lowest and highest variance-preserving time with guidance"
    )

    def build(self, run: Run) -> DiscriminatorGuidance:
        """Return the objective."""
        from genplug_guidance.discriminator import DiscriminatorGuidance

        return DiscriminatorGuidance(self)


class RealismGuidanceConfig(RealFakeConfig):
    """Realism guidance (arXiv 2405.18029): towards what the classifier takes for real."""

    margin: float = Field(
        0.02,
        ge=0,
        lt=0.5,
        description="guide only where in noise the classifier's held-out accuracy exceeds chance by this",
    )

    def build(self, run: Run) -> RealismGuidance:
        """Return the objective."""
        from genplug_guidance.realism import RealismGuidance

        return RealismGuidance(self)


class RealismJudgesConfig(Config):
    """Classifiers that tell real from generated samples, none of which guided anything."""

    features: bool = Field(
        False, description="judge features of the run's first extractor instead of the samples themselves"
    )
    network: NetworkConfig = Field(NetworkConfig(), description="the judges")
    train: TrainConfig = Field(
        TrainConfig(steps=600, batch_size=128, cooldown=1.0), description="the judges' training loop"
    )
    most: int = Field(10_000, ge=4, description="rows of a set that are looked at, drawn from more")
    samples: int = Field(
        -1, ge=-1, description="samples of the base that the independent judge sees (-1: as many as judged)"
    )
    held_out: float = Field(
        0.3, gt=0, lt=1, description="share of the rows that a judge is measured on and not trained on"
    )

    def build(self, run: Run) -> RealismJudges:
        """Return the evaluator."""
        from genplug_guidance.realism_judges import RealismJudges

        return RealismJudges(self)
