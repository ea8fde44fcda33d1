"""Options of the distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genplug.config import Config

if TYPE_CHECKING:
    from genplug.protocols import Distance
    from genplug.runtime import Run


class DistanceConfig(Config):
    """How neighbours are searched. Both backends are exact."""

    backend: Literal["auto", "torch", "faiss"] = Field("auto", description="auto is torch, on any device")
    block_mb: int = Field(64, ge=1, description="working memory of the torch search, MB")


class EuclideanConfig(DistanceConfig):
    """Options of the Euclidean distance."""

    def build(self, run: Run) -> Distance:
        """Return the distance."""
        from genplug_distances.build import euclidean

        return euclidean(self)


class CosineConfig(DistanceConfig):
    """Options of the cosine distance."""

    def build(self, run: Run) -> Distance:
        """Return the distance."""
        from genplug_distances.build import cosine

        return cosine(self)
