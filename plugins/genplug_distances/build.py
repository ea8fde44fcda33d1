"""Choose the backend of a distance."""

from __future__ import annotations

from genplug.errors import GenplugError
from genplug.protocols import Distance
from genplug_distances import faiss_backend
from genplug_distances.config import DistanceConfig
from genplug_distances.exact import Cosine, Euclidean


def euclidean(config: DistanceConfig) -> Distance:
    """Return the Euclidean distance with the configured search."""
    return _searching(Euclidean(config.block_mb << 20), config)


def cosine(config: DistanceConfig) -> Distance:
    """Return the cosine distance with the configured search."""
    return _searching(Cosine(config.block_mb << 20), config)


def _searching(distance: Euclidean, config: DistanceConfig) -> Distance:
    if config.backend != "faiss":
        return distance
    if not faiss_backend.available():
        raise GenplugError(
            "backend 'faiss' is missing or broken here; use backend 'torch', which is exact too"
        )
    return faiss_backend.FaissBackend(distance)
