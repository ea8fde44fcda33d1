"""Choose the backend of a distance."""

from __future__ import annotations

from genplug.errors import GenplugError
from genplug_distances import faiss_backend
from genplug_distances.config import DistanceConfig
from genplug_distances.exact import Cosine, Euclidean


def euclidean(config: DistanceConfig) -> Euclidean:
    """Return the Euclidean distance with the configured search."""
    return _faiss("FaissEuclidean", config) if config.backend == "faiss" else Euclidean(config.block_mb << 20)


def cosine(config: DistanceConfig) -> Euclidean:
    """Return the cosine distance with the configured search."""
    return _faiss("FaissCosine", config) if config.backend == "faiss" else Cosine(config.block_mb << 20)


def _faiss(name: str, config: DistanceConfig) -> Euclidean:
    if not faiss_backend.available():
        raise GenplugError("backend 'faiss' is missing or broken here; use backend 'torch', which is exact too")
    distance: Euclidean = getattr(faiss_backend, name)(config.block_mb << 20)
    return distance
