"""MLPs of points as trainable denoisers, and the exact denoiser of a mixture.

Legend: N points, D dimensions, K classes, C width of the condition.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from genplug.condition import Condition
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug_toy.mixture import GaussianMixture
from genplug_toy.networks import PointMlp


@dataclass(frozen=True)
class Architecture:
    """The arguments of a `PointMlp` but its condition."""

    dims: int
    width: int
    depth: int
    octaves: int
    noise_octaves: int

    def build(self, cond_width: int, seed: int, device: torch.device) -> nn.Module:
        """Return a network with random weights that depend on the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PointMlp(
                self.dims, self.dims, self.width, self.depth, self.octaves, cond_width, self.noise_octaves
            )
        return network.eval().requires_grad_(False).to(device)


@dataclass(frozen=True)
class MlpDenoiser(ABC):
    """What the trainable denoisers of points share: network, condition, copies.

    `cond_width` is the number of classes, or the width of features where it provides
    `feature-conditional`.
    """

    module: nn.Module
    architecture: Architecture
    cond_width: int
    noise: NoiseSpec
    provides: frozenset[str]

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.architecture.dims,)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @abstractmethod
    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma), ND."""

    def vectors(self, cond: Condition | None) -> Tensor | None:
        """Return the condition as the network sees it, NC of norm sqrt(C); no condition is the zero vector.

        Labels become one-hot rows, label -1 a zero row.
        """
        if cond is None or not self.cond_width:
            return None
        features = "feature-conditional" in self.provides
        rows_NC = (cond.feature_rows if features else cond.label_rows)(self.cond_width)
        return None if rows_NC is None else rows_NC * self.cond_width**0.5

    def with_module(self, module: nn.Module) -> Self:
        """Return the same denoiser around another module."""
        return replace(self, module=module)

    def with_unconditional(self) -> Self:
        """Return the same denoiser saying that its branch without condition is trained."""
        return replace(self, provides=self.provides | {"unconditional"})

    def for_features(self, width: int, seed: int) -> Self:
        """Return the same architecture with random weights, conditioned on features of that width."""
        module = self.architecture.build(width, seed, self.device)
        provides = self.provides - {"class-conditional", "unconditional"} | {
            "feature-conditional",
            "null-label",
        }
        return replace(self, module=module, cond_width=width, provides=provides)

    def after_step(self) -> None:  # noqa: B027 - there is nothing to do, for any of them
        """Do nothing: the weights have no invariants."""

    def clone(self) -> Self:
        """Return a copy with its own weights."""
        return replace(self, module=copy.deepcopy(self.module))


@dataclass(frozen=True)
class EdmDenoiser(MlpDenoiser):
    """D(x; sigma) = c_skip x + c_out F(c_in x, ln(sigma) / 4) (EDM, equation 7 and table 1)."""

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma)."""
        sigma, data = sigma_N[:, None], self.noise.sigma_data
        norm = (sigma**2 + data**2).sqrt()
        F_ND = self.module(x / norm, sigma_N.log() / 4, self.vectors(cond))
        denoised: Tensor = (data / norm) ** 2 * x + sigma * data / norm * F_ND
        return denoised

    def training_loss(self, x: Tensor, cond: Condition | None, draws: NoiseSource) -> Tensor:
        """Return lambda(sigma) ||D(x + sigma n; sigma) - x||^2 (EDM, equation 2)."""
        sigma_N = self.noise.draw(draws)
        noisy = x + sigma_N[:, None] * draws.normal(x.shape, "noise")
        error_ND = self.denoise(noisy, sigma_N, cond) - x
        return self.noise.weight(sigma_N) * error_ND.square().sum(1)


@dataclass(frozen=True)
class FlowNoise(NoiseSpec):
    """Noise levels of a rectified flow: ln sigma is the logit of its time t."""

    def weight(self, sigma_N: Tensor) -> Tensor:
        """Return 1 / t^2, with which the error of D is that of the velocity."""
        return (1 + 1 / sigma_N) ** 2


@dataclass(frozen=True)
class FlowDenoiser(MlpDenoiser):
    """A rectified flow's velocity v(x_t, t), x_t = (1 - t) clean + t noise, as a denoiser.

    x = clean + sigma noise is (1 + sigma) x_t with t = sigma / (1 + sigma), and since v estimates
    noise - clean, the clean point is x_t - t v.
    """

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma)."""
        t_N = sigma_N / (1 + sigma_N)
        x_t = x / (1 + sigma_N)[:, None]
        denoised: Tensor = x_t - t_N[:, None] * self.module(x_t, t_N, self.vectors(cond))
        return denoised

    def training_loss(self, x: Tensor, cond: Condition | None, draws: NoiseSource) -> Tensor:
        """Return ||v(x_t, t) - (noise - clean)||^2 (flow matching; t logit-normal)."""
        sigma_N = self.noise.draw(draws)
        t_N, n = sigma_N / (1 + sigma_N), draws.normal(x.shape, "noise")
        x_t = torch.lerp(x, n, t_N[:, None])
        error_ND = self.module(x_t, t_N, self.vectors(cond)) - (n - x)
        loss_N: Tensor = error_ND.square().sum(1)
        return loss_N


@dataclass(frozen=True)
class ExactDenoiser:
    """E[clean | x] under a mixture, given a class or not."""

    mixture: GaussianMixture
    noise: NoiseSpec
    provides: frozenset[str]

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.mixture.dims,)

    @property
    def device(self) -> torch.device:
        """Where the mixture is."""
        return self.mixture.means_MD.device

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return D(x; sigma)."""
        if cond is None or cond.is_null:
            return self.mixture.denoise(x, sigma_N)
        if cond.weights_NK is not None:
            return self._weighted(x, sigma_N, cond.weights_NK)
        labels_N: Any = cond.labels_N
        denoised = torch.empty_like(x)
        for label in labels_N.unique().tolist():
            rows_N = labels_N == label
            mixture = self.mixture if label < 0 else self.mixture.of_class(label)
            denoised[rows_N] = mixture.denoise(x[rows_N], sigma_N[rows_N])
        return denoised

    def _weighted(self, x: Tensor, sigma_N: Tensor, weights_NK: Tensor) -> Tensor:
        """Return D of a mixture of the classes with these weights, a row each."""
        classes = [self.mixture.of_class(label) for label in range(self.mixture.num_classes)]
        log_p_NK = torch.stack([one.log_density(x, sigma_N) for one in classes], 1)
        shares_NK = (weights_NK.log() + log_p_NK).softmax(1)
        D_NKD = torch.stack([one.denoise(x, sigma_N) for one in classes], 1)
        return (shares_NK[:, :, None] * D_NKD).sum(1)
