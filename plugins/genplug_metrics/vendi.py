"""Vendi score: the effective number of different rows, from the spectrum of their similarities.

    VS_q = exp( ln(sum_j lam_j^q) / (1 - q) ),  VS_1 = exp(-sum_j lam_j ln lam_j),  VS_inf = 1 / max lam

with lam the eigenvalues of the kernel matrix scaled to trace 1 (Friedman and Dieng 2023; Pasarkar and Dieng
2024). For the kernels that are products of rows, K = U U^T, the D x D matrix U^T U has the same non-zero
eigenvalues, so the smaller of the two is used: exact, float64. Where both are too large, the Nystrom method
gives the spectrum of the part of K that R drawn rows explain: a lower estimate, with the explained share of
the trace.

Legend: N rows, D feature width, R eigenvalues or landmark rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genplug_metrics.gram import gram
from genplug_metrics.mmd import Gaussian

KernelName = Literal["cosine", "linear", "rbf"]
Method = Literal["dual", "primal", "low-rank"]
CUT = 1e-15  # eigenvalues below this are rounding noise and count as zero
PIECE_BYTES = 2**26


@dataclass(frozen=True)
class Spectrum:
    """Positive eigenvalues, descending, with sum 1; `method` says where they come from.

    `explained` is the share of the trace that a low-rank estimate keeps (1 where it is exact). `energy(f_R)`
    gives for each row n sum_j <u_i, w_j>^2 f_j, with eigenvectors w, if they were asked for.
    """

    lam_R: Tensor
    method: Method
    explained: float = 1.0
    energy: Callable[[Tensor], Tensor] | None = None


def vendi(spectrum: Spectrum, q: float = 1.0) -> float:
    """Return the score of order q > 0, in [1, N]; small q weigh rare rows more, large q common ones."""
    return math.exp(entropy(spectrum.lam_R, q))


def entropy(lam_R: Tensor, q: float = 1.0) -> float:
    """Return the Renyi entropy of order q of positive eigenvalues, in nats."""
    if not q > 0:
        raise ValueError(f"the order of a Vendi score is above 0, got {q}")
    if math.isinf(q):
        return -math.log(float(lam_R.max()))
    if q == 1:
        return -float(torch.xlogy(lam_R, lam_R).sum())
    return math.log(float(lam_R.pow(q).sum())) / (1 - q)


def log_deviation(spectrum: Spectrum, q: float = 1.0) -> float:
    """Return the standard deviation of ln VS_q over samples of this size, to first order (delta method).

    A row more of kind u changes the scaled kernel C by (u u^T - |u|^2 C) / n, and the entropy by the trace
    of that with the derivative of the entropy. The variance of these influences over rows, by n, is that of
    the score.
    """
    if spectrum.energy is None:
        raise ValueError("the deviation needs a spectrum with eigenvectors")
    lam_R = spectrum.lam_R
    if math.isinf(q):
        factor, slope_R = -1.0, (lam_R == lam_R.max()).double() / lam_R
    elif q == 1:
        factor, slope_R = -1.0, lam_R.log()
    else:
        factor, slope_R = q / (1 - q) / float(lam_R.pow(q).sum()), lam_R.pow(q - 1)
    size_N, mean = spectrum.energy(torch.ones_like(lam_R)), float((lam_R * slope_R).sum())
    influence_N = factor * (spectrum.energy(slope_R) - size_N * mean)
    return math.sqrt(float(influence_N.square().mean()) / len(influence_N))


def spectrum(
    feat_ND: Tensor,
    kernel: KernelName = "cosine",
    *,
    sigma: float = 10.0,
    vectors: bool = False,
    limit: int = 8192,
    landmarks_RD: Tensor | None = None,
) -> Spectrum:
    """Return the spectrum of the kernel matrix of N x D features, scaled to trace 1.

    `cosine`: <x, y> / (|x| |y|); `linear`: <x, y>, divided by its trace; `rbf`: exp(-|x - y|^2 / (2
    sigma^2)). A matrix wider than `limit` is not built: the estimate uses the landmark rows (default: the
    first 2,048).
    """
    n, width = feat_ND.shape
    feat_ND = feat_ND.detach()
    if (n if kernel == "rbf" else min(n, width)) > limit:
        return _low_rank(
            feat_ND, feat_ND[:2048] if landmarks_RD is None else landmarks_RD, kernel, sigma, vectors
        )
    if kernel == "rbf":
        return _primal(Gaussian(sigma)(feat_ND.double(), feat_ND.double()) / n, vectors)
    scale = _scale(feat_ND, kernel)
    if width >= n:
        return _primal(gram(scale(feat_ND).T), vectors)
    return _dual(lambda: map(scale, _pieces(feat_ND, width)), n, vectors, "dual")


def _scale(feat_ND: Tensor, kernel: KernelName) -> Callable[[Tensor], Tensor]:
    """Return the map of rows to float64 rows u of which U U^T is the scaled kernel matrix."""
    n, width = feat_ND.shape
    if kernel == "cosine":
        return lambda x_ND: torch.nn.functional.normalize(x_ND.double(), eps=0.0) / math.sqrt(n)
    trace = sum(float(x_ND.double().square().sum()) for x_ND in _pieces(feat_ND, width))
    return lambda x_ND: x_ND.double() / math.sqrt(trace)


def _pieces(feat_ND: Tensor, width: int) -> tuple[Tensor, ...]:
    return torch.split(feat_ND, max(1, PIECE_BYTES // (8 * width)))


def _low_rank(
    feat_ND: Tensor, landmarks_RD: Tensor, kernel: KernelName, sigma: float, vectors: bool
) -> Spectrum:
    """Return the spectrum of K_NR K_RR^-1 K_RN, the largest matrix below K that the landmarks explain."""
    n = len(feat_ND)
    if kernel == "rbf":
        z_RD, rbf = landmarks_RD.double(), Gaussian(sigma)
        K_RR = rbf(z_RD, z_RD) / n

        def against(x_ND: Tensor) -> Tensor:
            return rbf(x_ND.double(), z_RD) / n
    else:
        scale = _scale(feat_ND, kernel)
        z_RD = scale(landmarks_RD)
        K_RR = z_RD @ z_RD.T

        def against(x_ND: Tensor) -> Tensor:
            return scale(x_ND) @ z_RD.T

    lam_R, v_RR = torch.linalg.eigh(K_RR)
    kept = lam_R > len(lam_R) * 2.0**-52 * lam_R[-1]
    root_RR = v_RR[:, kept] / lam_R[kept].sqrt()
    widest = max(feat_ND.shape[1], len(lam_R))
    return _dual(
        lambda: (against(x_ND) @ root_RR for x_ND in _pieces(feat_ND, widest)), n, vectors, "low-rank"
    )


def _dual(pieces: Callable[[], Iterable[Tensor]], n: int, vectors: bool, method: Method) -> Spectrum:
    """Return the spectrum of U^T U for rows u in pieces; its trace is 1 unless rows are explained in part."""
    C_DD = sum((gram(u_ND) for u_ND in pieces()), start=torch.zeros((), dtype=torch.float64))
    explained = float(C_DD.trace()) if method == "low-rank" else 1.0
    lam_R, w_DR = _eigen(C_DD / explained, vectors)

    def energy(f_R: Tensor) -> Tensor:
        assert w_DR is not None
        return torch.cat([(u_ND @ w_DR).square() @ f_R for u_ND in pieces()]) * (n / explained)

    return Spectrum(lam_R, method, explained, energy if vectors else None)


def _primal(K_NN: Tensor, vectors: bool) -> Spectrum:
    """Return the spectrum of the kernel matrix itself, of trace 1; here <u_i, w_j>^2 = lam_j v_ij^2."""
    lam_R, v_NR = _eigen(K_NN, vectors)

    def energy(f_R: Tensor) -> Tensor:
        assert v_NR is not None
        return v_NR.square() @ (lam_R * f_R) * len(K_NN)

    return Spectrum(lam_R, "primal", energy=energy if vectors else None)


def _eigen(K: Tensor, vectors: bool) -> tuple[Tensor, Tensor | None]:
    """Return the eigenvalues above the cut-off, descending, with their vectors as columns if asked for."""
    if not bool(K.isfinite().all()):
        raise ValueError("a similarity is not finite: a row of zeros has no direction, a NaN no place")
    lam, v = torch.linalg.eigh(K) if vectors else (torch.linalg.eigvalsh(K), None)
    first = int((lam > CUT).int().argmax())
    return lam[first:].flip(0), None if v is None else v[:, first:].flip(1)
