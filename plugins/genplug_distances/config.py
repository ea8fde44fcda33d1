"""Options of the distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genplug.config import Config

if TYPE_CHECKING:
    from genplug.protocols import Distance
    from genplug.runtime import Run


class DistanceConfig(Config):
    """How neighbours are searched. All but `ivf` and `hnsw` is exact."""

    backend: Literal["auto", "torch", "faiss"] = Field(
        "auto", description="auto is faiss for ivf and hnsw, else torch, on any device"
    )
    index: Literal["flat", "ivf", "hnsw"] = Field(
        "flat", description="flat finds all neighbours; ivf and hnsw miss some, how many is measured and said"
    )
    precision: Literal["auto", "float32"] = Field(
        "auto",
        description="auto: bfloat16 finds the candidates where that is faster; the results are the same",
    )
    block_mb: int = Field(256, ge=1, description="working memory of the torch search, MB")
    nlist: int = Field(0, ge=0, description="cells of ivf; 0 is four times the root of the number of rows")
    nprobe: int = Field(32, ge=1, description="cells of ivf that a query looks into")
    m: int = Field(32, ge=2, le=512, description="links of a row in the graph of hnsw")
    ef_search: int = Field(128, ge=1, description="rows of the graph of hnsw that a query keeps in sight")
    gpu: bool = Field(True, description="faiss flat and ivf on a GPU, if faiss has one")


class EuclideanConfig(DistanceConfig):
    """Options of the Euclidean distance."""

    def build(self, run: Run) -> Distance:
        """Return the distance."""
        from genplug_distances.build import searching
        from genplug_distances.exact import Euclidean

        return searching(Euclidean(self.block_mb << 20, self.precision), self, run.log)


class SquaredConfig(DistanceConfig):
    """Options of the squared Euclidean distance."""

    def build(self, run: Run) -> Distance:
        """Return the distance."""
        from genplug_distances.build import searching
        from genplug_distances.exact import Squared

        return searching(Squared(self.block_mb << 20, self.precision), self, run.log)


class CosineConfig(DistanceConfig):
    """Options of the cosine distance."""

    def build(self, run: Run) -> Distance:
        """Return the distance."""
        from genplug_distances.build import searching
        from genplug_distances.exact import Cosine

        return searching(Cosine(self.block_mb << 20, self.precision), self, run.log)


class PerceptualConfig(DistanceConfig):
    """Options of the perceptual distance."""

    channels: int | None = Field(
        None, ge=1, description="channels of the maps that the rows are, channels first"
    )

    def build(self, run: Run) -> Distance:
        """Return the distance."""
        from genplug.errors import ConfigError
        from genplug_distances.build import searching
        from genplug_distances.exact import Perceptual

        if self.channels is None:
            raise ConfigError("distance 'perceptual' needs to know the channels of the maps: set 'channels'")
        return searching(Perceptual(self.block_mb << 20, self.precision, self.channels), self, run.log)
