"""Distances between feature rows, with exact blocked search on any device or faiss."""

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
            name="squared",
            summary="|a - b|^2, exact",
            config="genplug_distances.config:SquaredConfig",
            differentiable=True,
        ),
        DistanceSpec(
            name="cosine",
            summary="1 - cos(a, b), exact",
            config="genplug_distances.config:CosineConfig",
            differentiable=True,
        ),
        DistanceSpec(
            name="perceptual",
            summary="squared differences of maps with unit channels, averaged over positions (LPIPS); exact",
            config="genplug_distances.config:PerceptualConfig",
            differentiable=True,
            tiny={"channels": 4},
        ),
    ]
