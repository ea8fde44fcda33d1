"""Exact distances between feature rows: Euclidean and cosine, blocked, on any device."""

from genplug import DistanceSpec, hookimpl


@hookimpl
def register_distances():
    return [
        DistanceSpec(
            name="euclidean",
            summary="|a - b|, exact",
            config="genplug_distances.config:EuclideanConfig",
            differentiable=True,
        ),
        DistanceSpec(
            name="cosine",
            summary="1 - cos(a, b), exact",
            config="genplug_distances.config:CosineConfig",
            differentiable=True,
        ),
    ]
