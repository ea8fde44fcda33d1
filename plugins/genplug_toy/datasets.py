"""The data sets: fixed draws from mixtures whose density is known."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.random import NoiseSource
from genplug.samplesets import ArraySet
from genplug_toy.config import FractalConfig, Gaussians1dConfig, MixtureConfig
from genplug_toy.fractal import fractal
from genplug_toy.mixture import GaussianMixture


class MixtureData:
    """Points of a mixture, float32 ND, the same on every call; labels are classes, equally frequent.

    Row i of a split is drawn from the i-th stream of that split, so that a larger split begins with the
    smaller one, and no two splits share a draw.
    """

    levels = 256

    def __init__(self, name: str, mixture: GaussianMixture, counts: Mapping[str, int]) -> None:
        self.name, self.counts, self._mixture = name, dict(counts), mixture
        self.num_classes = mixture.num_classes if mixture.num_classes > 1 else None

    def split(self, name: str) -> ArraySet:
        """Return `train` or `held-out`."""
        if name not in self.counts:
            raise DataError(f"{self.name} has the splits {', '.join(self.counts)}, not {name!r}")
        count, title = self.counts[name], f"{self.name}:{name}"
        labels_N = torch.arange(count) % self._mixture.num_classes
        points = torch.empty(count, self._mixture.dims)
        for label in labels_N.unique().tolist():
            rows_N = (labels_N == label).nonzero().flatten()
            points[rows_N], _ = self._mixture.of_class(label).sample(NoiseSource(rows_N, salt=title))
        return ArraySet(points, labels_N if self.num_classes else None, title)

    def mixture(self, label: int | None = None) -> GaussianMixture:
        """Return the density of one class, or of all of them."""
        return self._mixture if label is None else self._mixture.of_class(label)

    def log_density(self, x_ND: Tensor, sigma: Tensor | float = 0.0, label: int | None = None) -> Tensor:
        """Return ln p(x; sigma | label) in nats, N: of the points with noise of that level."""
        return self.mixture(label).log_density(x_ND, sigma)


def mixture_of(config: MixtureConfig) -> GaussianMixture:
    """Return the density that a configuration describes, its classes equally probable."""
    if isinstance(config, Gaussians1dConfig):
        m = config.separation
        variance = config.spread**2 if config.spread_is == "std" else config.spread
        return GaussianMixture(
            torch.ones(2),
            torch.tensor([[-m], [m]], dtype=torch.float64),
            torch.full((2, 1, 1), variance, dtype=torch.float64),
            torch.arange(2),
        )
    if not isinstance(config, FractalConfig):
        raise TypeError(f"{type(config).__name__} describes no mixture")
    both = fractal(config.shift)
    return both.balanced() if config.classes == "both" else both.of_class("AB".index(config.classes))


def gaussians_1d(config: Gaussians1dConfig) -> MixtureData:
    """Return two Gaussians on a line."""
    return _data("gaussians-1d", config)


def fractal_data(config: FractalConfig) -> MixtureData:
    """Return the fractal."""
    return _data("fractal", config)


def _data(name: str, config: MixtureConfig) -> MixtureData:
    return MixtureData(name, mixture_of(config), {"train": config.train, "held-out": config.held_out})
