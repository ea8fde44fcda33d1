"""The two-dimensional fractal: two classes of branching line segments (arXiv 2406.02507, toy example).

Each class is a binary tree of 127 segments over 7 generations, each a chain of 8 Gaussians, 1016 in all;
A sets out towards (1, 1), B against it. The drawn lengths and angles are those of the published toy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from genplug_toy.mixture import GaussianMixture

SEED = 2
ORIGIN = np.array([0.0030, 0.0325])
SCALE = np.array([1.3136, 1.3844])
GENERATIONS = 7
PLACES = np.linspace(0.07, 0.93, 8)  # of the Gaussians along a segment

Gaussian = tuple[float, np.ndarray, np.ndarray]


def fractal(shift: float = 0.0) -> GaussianMixture:
    """Return both classes, A as 0 and B as 1.

    `shift` moves B's origin by shift (1, 1), before scaling, into A: the classes entangle (0.15, 0.3).
    """
    draws = np.random.RandomState(SEED)
    trees = [
        list(_branches(draws, 0, ORIGIN, math.pi / 4)),
        list(_branches(draws, 0, ORIGIN + shift, 5 * math.pi / 4)),
    ]
    columns = [np.stack(column) for column in zip(*trees[0], *trees[1], strict=True)]
    classes = torch.arange(2).repeat_interleave(torch.tensor([len(tree) for tree in trees]))
    weights, means, covariances = (torch.from_numpy(column) for column in columns)
    return GaussianMixture(weights, means.float(), covariances.float(), classes)  # in float32 as published


def _branches(
    draws: np.random.RandomState, depth: int, start: np.ndarray, angle: float
) -> Iterator[Gaussian]:
    """Yield weight, mean and covariance of a segment's Gaussians, then of its children, depth first."""
    if depth == GENERATIONS:
        return
    direction = np.array([math.cos(angle), math.sin(angle)])
    length = 0.292 * 0.8**depth * (1 + 0.2 * draws.randn())
    thickness = 0.2 * 0.8**depth / length
    size = SCALE * length * 0.06
    along = np.outer(direction, direction)
    covariance = (along + (np.eye(2) - along) * thickness**2) * np.outer(size, size)
    for place in PLACES:
        yield length * 0.5**depth, (start + direction * length * place) * SCALE, covariance
    for sign in (1, -1):
        turn = sign * 0.7**depth * (1 + 0.2 * draws.randn())
        yield from _branches(draws, depth + 1, start + direction * length, angle + turn)
