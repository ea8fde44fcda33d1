"""Choose who searches for a distance."""

from __future__ import annotations

from genplug.errors import ConfigError
from genplug.log import Log
from genplug.protocols import Distance
from genplug_distances import faiss_backend
from genplug_distances.config import DistanceConfig
from genplug_distances.exact import Euclidean


def searching(distance: Euclidean, config: DistanceConfig, log: Log) -> Distance:
    """Return the distance, with its index searched as configured."""
    approximate = config.index != "flat"
    if config.backend == "torch" and approximate:
        raise ConfigError(f"index '{config.index}' is one of faiss; use backend 'faiss' or index 'flat'")
    if config.backend != "faiss" and not approximate:
        return distance
    if not faiss_backend.available():
        raise ConfigError(
            "faiss is missing or broken here; use backend 'torch' and index 'flat', which are exact"
        )
    knobs = config.model_dump(include=set(faiss_backend.Knobs.__annotations__))
    return faiss_backend.FaissBackend(distance, faiss_backend.Knobs(**knobs), log)
