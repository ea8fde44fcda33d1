"""Options of the evaluators `irs`, `measurement-gap` and `retrieval-agreement`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from genplug.config import Component, Config, DistanceRef

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_irs.agreement import RetrievalAgreement
    from genplug_irs.evaluator import IrsEvaluator
    from genplug_irs.gap import MeasurementGap

Share = Annotated[float, Field(gt=0, lt=1)]


class BoundsConfig(Config):
    """How intervals err."""

    alpha_e: float = Field(0.05, gt=0, lt=0.5, description="error probability of the interval's bounds")
    error_of: Literal["bound", "interval"] = Field(
        "bound",
        description="what alpha_e is the error of: each bound, as in the paper (both together then err with "
        "at most twice that), or the interval, each bound then taking half",
    )

    @property
    def per_bound(self) -> float:
        """The error probability of each bound."""
        return self.alpha_e if self.error_of == "bound" else self.alpha_e / 2

    @property
    def level(self) -> float:
        """The share that both bounds together cover."""
        return 1 - 2 * self.per_bound


class IrsConfig(BoundsConfig):
    """Options of the Image Retrieval Score."""

    distance: DistanceRef = Field(Component(name="euclidean"), description="distance of the retrieval")
    bootstrap: int = Field(1000, ge=100, description="redraws for the interval of the adjusted score")
    shares: tuple[Share, ...] = Field(
        (0.25, 0.5),
        description="parts of the samples at which the estimate is repeated: it rises with them where "
        "training images are not equally likely",
    )
    target: float = Field(
        0.8, gt=0, le=1, description="diversity that k_min, the threshold of rejection, is reported for"
    )

    def build(self, run: Run) -> IrsEvaluator:
        """Return the evaluator."""
        from genplug_irs.evaluator import IrsEvaluator

        return IrsEvaluator(self)


class MeasurementGapConfig(BoundsConfig):
    """Options of the measurement gap."""

    distances: tuple[DistanceRef, ...] = Field(
        (Component(name="euclidean"), Component(name="cosine")),
        min_length=1,
        description="distances of the retrieval",
    )
    alpha: float = Field(
        0.0, ge=0, description="real queries per training image: takes fewer training images (0: as they are)"
    )

    @model_validator(mode="after")
    def _distances_differ(self) -> MeasurementGapConfig:
        names = [distance.name for distance in self.distances]
        if len(set(names)) < len(names):
            raise ValueError("distances must differ: a score is named by its extractor and its distance")
        return self

    def build(self, run: Run) -> MeasurementGap:
        """Return the evaluator."""
        from genplug_irs.gap import MeasurementGap

        return MeasurementGap(self)


class RetrievalAgreementConfig(Config):
    """Options of the agreement of extractors."""

    distance: DistanceRef = Field(Component(name="euclidean"), description="distance of the retrieval")
    least: int = Field(
        0, ge=0, description="extractors that make a consensus (0: more than half; the paper: 5 of 9)"
    )

    def build(self, run: Run) -> RetrievalAgreement:
        """Return the evaluator."""
        from genplug_irs.agreement import RetrievalAgreement

        return RetrievalAgreement(self)
