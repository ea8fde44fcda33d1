"""Options of the evaluators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genplug.config import Config

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_metrics.evaluators import FrechetEvaluator, PrdcEvaluator


class FrechetConfig(Config):
    """Options of the Frechet distance."""

    groups: int = Field(20, ge=2, le=1000, description="groups of the jackknife that gives the interval")

    def build(self, run: Run) -> FrechetEvaluator:
        """Return the evaluator."""
        from genplug_metrics.evaluators import FrechetEvaluator

        return FrechetEvaluator(self)


class PrdcConfig(Config):
    """Options of precision, recall, density and coverage."""

    k: int = Field(5, ge=1, description="neighbours that span a ball")
    convention: Literal["<", "<="] = Field(
        "<", description="whether the rim belongs to a ball: '<' as in prdc, '<=' as in torch-fidelity"
    )
    distance: Literal["euclidean", "cosine"] = Field("euclidean", description="distance of the balls")
    equal_counts: bool = Field(
        True, description="use as many real as generated samples, drawn with a fixed seed"
    )

    def build(self, run: Run) -> PrdcEvaluator:
        """Return the evaluator."""
        from genplug_metrics.evaluators import PrdcEvaluator

        return PrdcEvaluator(self)
