"""Options of the Image Retrieval Score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from genplug.config import Component, Config, DistanceRef

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_irs.evaluator import IrsEvaluator


class IrsConfig(Config):
    """Options of the Image Retrieval Score."""

    alpha_e: float = Field(0.05, gt=0, lt=0.5, description="error probability of each bound of the interval")
    distance: DistanceRef = Field(Component(name="euclidean"), description="distance of the retrieval")
    bootstrap: int = Field(1000, ge=100, description="redraws for the interval of the adjusted score")

    def build(self, run: Run) -> IrsEvaluator:
        """Return the evaluator."""
        from genplug_irs.evaluator import IrsEvaluator

        return IrsEvaluator(self)
