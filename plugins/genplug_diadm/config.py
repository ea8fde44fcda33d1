"""Options of `diadm`, `feature-draw` and `memorisation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genplug.config import Component, Config, DistanceRef, ExtractorName, Options, TrainConfig

if TYPE_CHECKING:
    from genplug.protocols import Evaluator
    from genplug.runtime import Run
    from genplug_diadm.diadm import Diadm
    from genplug_diadm.redraw import FeatureDraw

#: Where the features of a sample come from; `draws.py` has the definitions.
Draw = Literal["each-once", "with-replacement", "interpolated", "jittered", "held-out", "gaussian", "kernel"]


class DrawOptions(Options):
    """Which features a sample is conditioned on, by its seed alone."""

    draw: Draw = Field(
        "each-once",
        description="features of training images, each once and then again, or at random; mixed with those "
        "of another one, or with noise; those of held-out images; or of a density fitted to the features",
    )
    neighbours: int = Field(
        5, ge=0, le=1000, description="interpolated: among so many nearest others (0: among all)"
    )
    jitter: float = Field(
        0.25, gt=0, le=10, description="jittered: noise in standard deviations of each feature"
    )


class DiadmConfig(DrawOptions, Config):
    """Feature-conditioned training from scratch (arXiv 2411.16171, section 4)."""

    extractor: ExtractorName = Field(
        "inception-fid",
        min_length=1,
        description="extractor of the features that are the condition, NAME[.TAG][:ARGUMENT][@OUTPUT]",
    )
    components: int = Field(
        0,
        ge=0,
        le=100_000,
        description="principal components that are kept of them (0: the features as they are)",
    )
    train: TrainConfig = Field(TrainConfig(), description="the training loop")

    def cost(self) -> dict[str, int]:
        """Return what the training takes."""
        return {"training_images": self.train.steps * self.train.batch_size}

    def build(self, run: Run) -> Diadm:
        """Return the objective."""
        from genplug_diadm.diadm import Diadm

        return Diadm(self)


class FeatureDrawConfig(DrawOptions, Config):
    """Sampling of a DiADM generator with other features than it was made with."""

    def build(self, run: Run) -> FeatureDraw:
        """Return the objective."""
        from genplug_diadm.redraw import FeatureDraw

        return FeatureDraw(self)


class MemorisationConfig(Config):
    """Options of the memorisation check."""

    distance: DistanceRef = Field(Component(name="euclidean"), description="distance to training samples")
    quantile: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="samples nearer to training samples than this share of held-out ones are copies",
    )
    sources: int = Field(
        500,
        ge=0,
        le=100_000,
        description="samples drawn to be compared with their own source image (0: none)",
    )

    def build(self, run: Run) -> Evaluator:
        """Return the evaluator."""
        from genplug_diadm.memorisation import MemorisationEvaluator

        return MemorisationEvaluator(self)
