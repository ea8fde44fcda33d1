"""Frechet distance between Gaussians fitted to two feature sets, in float64.

    d^2 = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))                  (Dowson and Landau 1982)

With S_1 = F_1 F_1^T and S_2 = F_2 F_2^T the last trace is the nuclear norm of F_2^T F_1, for factors of any
rank. Nothing is added to a covariance and no complex number occurs.

Legend: N rows, D feature width, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from genplug_metrics.gram import congruence, gram

EPS = 2.0**-52
PIECE_BYTES = 2**26


@dataclass(frozen=True)
class Gaussian:
    """Mean and unbiased covariance (divisor n - 1), float64, of n rows; n = None when it is not known."""

    mu_D: Tensor
    cov_DD: Tensor
    n: int | None = None

    @property
    def rank(self) -> int:
        """Largest rank the covariance can have: n rows span n - 1 directions about their mean."""
        return len(self.mu_D) if self.n is None else min(len(self.mu_D), self.n - 1)

    @property
    def trace(self) -> float:
        """Total variance."""
        return float(self.cov_DD.trace())

    @cached_property
    def cholesky(self) -> Tensor | None:
        """L_DD with L L^T = covariance, or None if the covariance is singular."""
        if self.rank < len(self.mu_D):
            return None
        L_DD, info = torch.linalg.cholesky_ex(self.cov_DD)
        return L_DD if int(info) == 0 else None

    @cached_property
    def factor(self) -> Tensor:
        """F_DR with F F^T = covariance: Cholesky where it is exact, else scaled eigenvectors."""
        L_DD, width = self.cholesky, len(self.mu_D)
        if L_DD is not None:
            pivot_D = L_DD.diagonal().square()
            if bool(pivot_D.min() > width * EPS * pivot_D.max()):
                return L_DD
        lam_D, U_DD = torch.linalg.eigh(self.cov_DD)
        lam_R, U_DR = lam_D[width - self.rank :], U_DD[:, width - self.rank :]
        kept = lam_R > width * EPS * lam_D[-1].clamp_min(0)
        F_DR: Tensor = U_DR[:, kept] * lam_R[kept].sqrt()
        return F_DR


@dataclass(frozen=True)
class FewRows:
    """The Gaussian of n <= D rows, whose covariance is never formed: centred and scaled, they are its factor.

    So features may be as wide as images have pixels.
    """

    mu_D: Tensor
    factor: Tensor

    cholesky: ClassVar[None] = None

    @property
    def rank(self) -> int:
        """Largest rank the covariance can have."""
        return self.factor.shape[1] - 1

    @property
    def trace(self) -> float:
        """Total variance."""
        return float(self.factor.square().sum())


Fitted = Gaussian | FewRows


@dataclass(frozen=True)
class Frechet:
    """The two terms of the squared Frechet distance, in squared units of the features, both >= 0."""

    mean_term: float
    cov_term: float

    @property
    def value(self) -> float:
        return self.mean_term + self.cov_term


class GaussianStats:
    """Mean and scatter of rows that come in batches, or from several processes (Chan et al. 1983)."""

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.n = 0
        self.mu_D = torch.zeros(width, dtype=torch.float64, device=device)
        self.scatter_DD = torch.zeros((width, width), dtype=torch.float64, device=device)

    def update(self, feat_ND: Tensor) -> GaussianStats:
        """Add rows of any real dtype; only a piece of them is in float64 at a time."""
        if feat_ND.ndim != 2 or feat_ND.shape[1] != len(self.mu_D):
            raise ValueError(f"expected rows of {len(self.mu_D)} features, got shape {tuple(feat_ND.shape)}")
        for piece_ND in torch.split(feat_ND.detach(), max(1, PIECE_BYTES // (8 * len(self.mu_D)))):
            x_ND = piece_ND.to(self.mu_D.device).double()
            mu_D = x_ND.mean(0)
            x_ND = x_ND - mu_D
            self._add(len(x_ND), mu_D, gram(x_ND))
        return self

    def merge(self, other: GaussianStats) -> GaussianStats:
        """Add the rows of another instance; the order of merging matters only by rounding."""
        self._add(other.n, other.mu_D.to(self.mu_D.device), other.scatter_DD.to(self.mu_D.device))
        return self

    def copy(self) -> GaussianStats:
        """Return an independent copy."""
        return GaussianStats(len(self.mu_D), self.mu_D.device).merge(self)

    def _add(self, n: int, mu_D: Tensor, scatter_DD: Tensor) -> None:
        total = self.n + n
        if n == 0:
            return
        delta_D = mu_D - self.mu_D
        self.scatter_DD = self.scatter_DD + scatter_DD + torch.outer(delta_D, delta_D) * (self.n * n / total)
        self.mu_D = self.mu_D + delta_D * (n / total)
        self.n = total

    def finish(self) -> Gaussian:
        """Return the fitted Gaussian; needs two rows, all finite."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows, got {self.n}")
        if not bool(self.scatter_DD.isfinite().all()):
            raise ValueError("features contain NaN or infinity")
        return Gaussian(self.mu_D, self.scatter_DD / (self.n - 1), self.n)


def fit_gaussian(feat_ND: Tensor) -> Gaussian:
    """Fit mean and covariance to N x D features on their device (on the CPU for MPS)."""
    device = "cpu" if feat_ND.device.type == "mps" else feat_ND.device
    return GaussianStats(feat_ND.shape[1], device).update(feat_ND).finish()


def fit_rows(feat_ND: Tensor) -> Fitted:
    """Fit as `fit_gaussian`; at most D rows, centred, serve as the factor of their covariance."""
    n, width = feat_ND.shape
    if n > width or n < 2:
        return fit_gaussian(feat_ND)
    x_ND = feat_ND.detach().to("cpu" if feat_ND.device.type == "mps" else feat_ND.device).double()
    if not bool(x_ND.isfinite().all()):
        raise ValueError("features contain NaN or infinity")
    mu_D = x_ND.mean(0)
    return FewRows(mu_D, (x_ND - mu_D).T / float(n - 1) ** 0.5)


def frechet_distance(a: Fitted, b: Fitted) -> Frechet:
    """Return the Frechet distance of two Gaussians of equal width, of any rank."""
    if a.mu_D.shape != b.mu_D.shape:
        raise ValueError(f"feature widths differ: {len(a.mu_D)} and {len(b.mu_D)}")
    root = _trace_root_fast(a, b)
    return _frechet(a, b, _nuclear_norm(a.factor, b.factor) if root is None else root)


def frechet_from_features(x_ND: Tensor, y_ND: Tensor) -> Frechet:
    """Return the Frechet distance of two feature sets."""
    return frechet_distance(fit_rows(x_ND), fit_rows(y_ND))


def _nuclear_norm(F_DR: Tensor, G_DR: Tensor) -> float:
    cross_RR = G_DR.T @ F_DR
    return float(torch.linalg.svdvals(cross_RR).sum()) if cross_RR.numel() else 0.0


def _trace_root_fast(a: Fitted, b: Fitted) -> float | None:
    """Return tr (S_1 S_2)^(1/2) from the eigenvalues of L^T S_2 L, S_1 = L L^T; None where that is inexact.

    Each eigenvalue lam carries an error of about EPS max(lam), so its root one of EPS max(lam) / (2 root).
    """
    L_DD = a.cholesky
    if L_DD is None or isinstance(b, FewRows) or b.rank < len(b.mu_D):
        return None
    lam_D = torch.linalg.eigvalsh(congruence(L_DD, b.cov_DD))
    if not bool(lam_D[0] > len(lam_D) * EPS * lam_D[-1]):
        return None
    error = float((EPS * lam_D[-1] / (2 * lam_D.sqrt())).sum())
    scale = a.trace + b.trace
    return float(lam_D.sqrt().sum()) if error < 1e-11 * scale else None


def _frechet(a: Fitted, b: Fitted, trace_root: float) -> Frechet:
    """Put the terms together; the covariance term is >= 0, so a rounding below zero is cut off."""
    mean_term = float((a.mu_D - b.mu_D).square().sum())
    cov_term = a.trace + b.trace - 2 * trace_root
    return Frechet(mean_term, max(0.0, cov_term))
