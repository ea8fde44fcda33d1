"""Gaussian mixtures with everything about them exact: density, score, denoiser, class posterior.

With noise of level sigma every component N(mu, Sigma) becomes N(mu, Sigma + sigma^2 I). In the
eigenbasis Q of Sigma that only adds sigma^2 to the eigenvalues, so that one decomposition serves all
levels. Computed in float64 and returned in the precision of the points.

Legend: N points, M components, D dimensions, K classes. sigma is a number, or one per point (N).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genplug.random import NoiseSource

#: Point-component pairs that are computed at once: a few arrays of this size fit into a CPU's cache.
PAIRS = 2**16


class GaussianMixture:
    """A mixture of M Gaussians in D dimensions, each of them of a class."""

    def __init__(
        self, weights_M: Tensor, means_MD: Tensor, covariances_MDD: Tensor, classes_M: Tensor | None = None
    ) -> None:
        """Take weights (positive, normalised here), means, covariances and classes (default: all 0)."""
        self.weights_M = weights_M.double() / weights_M.double().sum()
        self.means_MD, self.covariances_MDD = means_MD.double(), covariances_MDD.double()
        self.classes_M = torch.zeros(len(weights_M), dtype=torch.int64) if classes_M is None else classes_M
        variances_MD, self._axes_MDD = torch.linalg.eigh(self.covariances_MDD)  # columns are axes
        self._variances_MD = variances_MD.clamp(min=0)

    def __len__(self) -> int:
        return len(self.weights_M)

    @property
    def dims(self) -> int:
        """D."""
        return self.means_MD.shape[1]

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.classes_M.max()) + 1

    def rms(self) -> float:
        """Return the root mean square of a coordinate."""
        squares_MD = self.means_MD.square() + self.covariances_MDD.diagonal(dim1=1, dim2=2)
        return float((self.weights_M @ squares_MD).mean().sqrt())

    def to(self, device: torch.device | str) -> GaussianMixture:
        """Return a copy on a device."""
        parts = (self.weights_M, self.means_MD, self.covariances_MDD, self.classes_M)
        return GaussianMixture(*(part.to(device) for part in parts))

    def of_class(self, label: int) -> GaussianMixture:
        """Return the mixture of one class alone."""
        mine = self.classes_M == label
        return GaussianMixture(self.weights_M[mine], self.means_MD[mine], self.covariances_MDD[mine])

    def balanced(self) -> GaussianMixture:
        """Return the mixture with equally probable classes."""
        shares_K = torch.zeros(self.num_classes).double().index_add(0, self.classes_M, self.weights_M)
        weights_M = self.weights_M / shares_K[self.classes_M]
        return GaussianMixture(weights_M, self.means_MD, self.covariances_MDD, self.classes_M)

    def noisy(self, sigma: float) -> GaussianMixture:
        """Return the mixture of these points with normal noise of that level."""
        covariances_MDD = self.covariances_MDD + sigma**2 * torch.eye(self.dims).to(self.covariances_MDD)
        return GaussianMixture(self.weights_M, self.means_MD, covariances_MDD, self.classes_M)

    def log_density(self, x_ND: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return ln p(x; sigma) in nats, N."""
        return self._by_chunks(lambda x, variance: self._log_joint(x, variance)[0].logsumexp(1), x_ND, sigma)

    def score(self, x_ND: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return the gradient of ln p(x; sigma) with respect to x, ND."""
        return self._by_chunks(self._score, x_ND, sigma)

    def denoise(self, x_ND: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[clean | x] = x + sigma^2 grad ln p(x; sigma), ND (Tweedie's formula)."""
        return self._by_chunks(lambda x, variance: x + variance * self._score(x, variance), x_ND, sigma)

    def posterior(self, x_ND: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return p(class | x; sigma), NK: rows sum to one."""
        return self.log_posterior(x_ND, sigma).exp()

    def log_posterior(self, x_ND: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return ln p(class | x; sigma), NK; safe where a class is impossible."""
        return self._by_chunks(self._log_posterior, x_ND, sigma)

    def sample(self, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        """Return one point per seed, float32 ND, and its class, int64 N."""
        mixture = self.to(noise.seeds_N.device)
        u_N = noise.uniform((len(noise),), "component").double()
        last = len(self) - 1
        rows_N = torch.searchsorted(mixture.weights_M.cumsum(0), u_N, right=True).clamp(max=last)
        along_ND = (
            noise.normal((len(noise), self.dims), "point").double() * mixture._variances_MD[rows_N].sqrt()
        )
        x_ND = mixture.means_MD[rows_N] + torch.einsum("nij,nj->ni", mixture._axes_MDD[rows_N], along_ND)
        return x_ND.float(), mixture.classes_M[rows_N]

    def _log_joint(self, x: Tensor, variance: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return ln(weight_m p_m(x)), NM, and x - mu_m along each axis, D arrays NM.

        `variance` is that of the noise, 1 x 1 or N x 1.
        """
        log_joint = self.weights_M.log() - 0.5 * self.dims * math.log(2 * math.pi)
        offsets = []
        for axis_MD, own_M in zip(self._axes_MDD.unbind(2), self._variances_MD.unbind(1), strict=True):
            offset = x @ axis_MD.T - (self.means_MD * axis_MD).sum(1)
            total = own_M + variance
            log_joint = log_joint - 0.5 * (offset.square() / total + total.log())
            offsets.append(offset)
        return log_joint, offsets

    def _score(self, x: Tensor, variance: Tensor) -> Tensor:
        log_joint, offsets = self._log_joint(x, variance)
        shares = log_joint.softmax(1)
        score = torch.zeros_like(x)
        axes = zip(self._axes_MDD.unbind(2), self._variances_MD.unbind(1), offsets, strict=True)
        for axis_MD, own_M, offset in axes:
            score = score - (shares * offset / (own_M + variance)) @ axis_MD
        return score

    def _log_posterior(self, x: Tensor, variance: Tensor) -> Tensor:
        log_joint, _ = self._log_joint(x, variance)
        classes = [log_joint[:, self.classes_M == label] for label in range(self.num_classes)]
        return torch.stack([one.logsumexp(1) for one in classes], 1).log_softmax(1)

    def _by_chunks(
        self, function: Callable[[Tensor, Tensor], Tensor], x_ND: Tensor, sigma: Tensor | float
    ) -> Tensor:
        """Apply a function of (x, variance of the noise) to rows, some at a time, in float64."""
        sigma_N = torch.as_tensor(sigma, dtype=torch.float64, device=x_ND.device).reshape(-1, 1)
        if len(sigma_N) > 1 and bool((sigma_N == sigma_N[0]).all()):
            sigma_N = sigma_N[:1]  # one level for all rows is several times faster
        rows = max(1, PAIRS // len(self))
        chunks = x_ND.double().split(rows)
        levels = sigma_N.square().split(rows) if len(sigma_N) > 1 else [sigma_N.square()] * len(chunks)
        parts = [function(x, variance) for x, variance in zip(chunks, levels, strict=True)]
        return torch.cat(parts).to(x_ND.dtype)
