"""Options of `pretrain`, `ddo` and `cca`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from genplug.config import Config, ExtractorName, TrainConfig

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_ddo.cca import Cca
    from genplug_ddo.ddo import Ddo
    from genplug_ddo.pretrain import Pretrain

#: Dimension of x for which the paper's beta was chosen: CIFAR-10, 3 x 32 x 32.
PAPER_DIMENSION = 3072

Positive = Annotated[float, Field(gt=0)]


class PretrainConfig(Config):
    """Plain training. The result is the last weight average, or a post-hoc one."""

    train: TrainConfig = Field(TrainConfig(), description="the training loop")
    snapshots: int = Field(1, ge=1, description="equally spaced snapshots that are kept")
    posthoc_std: float = Field(
        0.0,
        ge=0,
        lt=0.289,
        description="relative length of an average reconstructed from the snapshots (0: none)",
    )

    label_dropout: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the rows without their label: the branch that classifier-free guidance needs",
    )

    @model_validator(mode="after")
    def _has_averages(self) -> PretrainConfig:
        if self.posthoc_std and not self.train.ema_std:
            raise ValueError("posthoc_std needs train.ema_std, the averages to reconstruct from")
        return self

    def needs(self) -> tuple[str, ...]:
        """Return what dropped labels need."""
        return ("class-conditional", "null-label") if self.label_dropout else ()

    def adds(self) -> tuple[str, ...]:
        """Return what dropped labels give."""
        return ("unconditional",) if self.label_dropout else ()

    def cost(self) -> dict[str, int]:
        """Return what the training takes."""
        return {"training_images": self.train.steps * self.train.batch_size}

    def build(self, run: Run) -> Pretrain:
        """Return the objective."""
        from genplug_ddo.pretrain import Pretrain

        return Pretrain(self)


class DdoConfig(Config):
    """Direct Discriminative Optimization (methods and symbols of arXiv 2503.01103)."""

    alpha: float = Field(1.0, gt=0, description="weight of the term on generated samples (equation 13)")
    beta: float = Field(0.02, gt=0, description="scale of the log-ratio (equation 13)")
    beta_mode: Literal["fixed", "dimension", "adapt"] = Field(
        "fixed",
        description="fixed: beta as it is; dimension: times 3072 / D, the paper's images over yours; "
        "adapt: 1 / the measured spread of the log-ratio, with beta as the first guess",
    )
    adapt_steps: int = Field(50, ge=2, description="steps after which `adapt` measures the spread")
    sweep: tuple[tuple[Positive, Positive], ...] = Field(
        (), description="(alpha, beta) pairs tried in every round, the best kept; empty: alpha and beta alone"
    )
    rounds: int = Field(
        1, ge=1, description="rounds of self-play, each against the best result of the one before"
    )
    train: TrainConfig = Field(
        TrainConfig(warmup=0.2, ema_halflife=25.0, balance=False),
        description="the training loop of one round",
    )
    pool: int = Field(
        -1,
        ge=-1,
        description="samples of the reference drawn before a round (0: online; -1: as many as real ones)",
    )
    reencode: bool = Field(False, description="decode and encode generated samples again, as real ones were")
    uncond_ratio: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the pairs that lose their label and train the branch without labels",
    )
    legacy_null_weight: bool = Field(
        False, description="give those pairs weight 1 instead of max(alpha, 1), as the official trainer does"
    )
    log_mean: float | None = Field(
        None, allow_inf_nan=False, description="mean of ln sigma (default: as in pretraining)"
    )
    log_std: float | None = Field(
        None, gt=0, description="standard deviation of ln sigma (default: as in pretraining)"
    )
    checkpoints: int = Field(3, ge=1, description="candidates per round, equally spaced")
    select: str = Field("fd", description="score of an installed evaluator that picks round and candidate")
    select_evaluator: str = Field("frechet", description="evaluator that gives the score")
    select_extractor: ExtractorName = Field("pixels", description="feature extractor of that score")
    select_samples: int = Field(
        1000, ge=2, description="samples per selection block, on seeds never reported"
    )
    select_blocks: int = Field(2, ge=1, description="selection blocks")
    reject: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training images that a candidate must be able to reach (0: none): it is "
        "out as soon as its samples retrieve too many of them twice, with an error of 5 % (IRS, equation 10)",
    )
    patience: float = Field(
        0.0,
        ge=0,
        description="standard errors of the score by which a round must beat its reference to go on",
    )

    @model_validator(mode="after")
    def _consistent(self) -> DdoConfig:
        if self.patience and self.select_blocks < 2:
            raise ValueError("patience needs select_blocks of at least 2 to measure the score's error")
        if self.legacy_null_weight and not self.uncond_ratio:
            raise ValueError("legacy_null_weight has no effect without uncond_ratio")
        return self

    def needs(self) -> tuple[str, ...]:
        """Return what pairs without labels need."""
        return ("class-conditional", "null-label|unconditional") if self.uncond_ratio else ()

    def candidates(self) -> tuple[tuple[float, float], ...]:
        """Return the (alpha, beta) pairs of every round."""
        return self.sweep or ((self.alpha, self.beta),)

    def cost(self) -> dict[str, Any]:
        """Return what the rounds take; a training image is one real and one generated row."""
        trainings = self.rounds * len(self.candidates())
        chosen = trainings * self.checkpoints * self.select_samples * self.select_blocks
        return {
            "training_images": trainings * self.train.steps * self.train.batch_size,
            "reference_samples": "online"
            if self.pool == 0
            else self.rounds * self.pool
            if self.pool > 0
            else "data",
            "selection_samples": chosen,
        }

    def build(self, run: Run) -> Ddo:
        """Return the objective."""
        from genplug_ddo.ddo import Ddo

        return Ddo(self)


class CcaConfig(Config):
    """Condition Contrastive Alignment (arXiv 2410.09347): the same samples with wrong labels as negatives."""

    weight: float = Field(50.0, gt=0, description="lambda, the weight of the term on wrong labels")
    beta: float = Field(0.02, gt=0, description="scale of the log-ratio")
    uncond_ratio: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the rows that lose their label and train the branch without labels",
    )
    train: TrainConfig = Field(TrainConfig(lr=2e-5), description="the training loop")
    log_mean: float | None = Field(
        None, allow_inf_nan=False, description="mean of ln sigma (default: as in pretraining)"
    )
    log_std: float | None = Field(
        None, gt=0, description="standard deviation of ln sigma (default: as in pretraining)"
    )

    def needs(self) -> tuple[str, ...]:
        """Return what rows without labels need."""
        return ("null-label|unconditional",) if self.uncond_ratio else ()

    def cost(self) -> dict[str, int]:
        """Return what the training takes; a training image is one row with both of its labels."""
        return {"training_images": self.train.steps * self.train.batch_size}

    def build(self, run: Run) -> Cca:
        """Return the objective."""
        from genplug_ddo.cca import Cca

        return Cca(self)
