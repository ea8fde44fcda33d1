"""Averages of a network's weights over training: power-function profiles and half-lives.

Power-function averages weigh the weights at time t' of a run of length t by (t'/t)^gamma; the relative
standard deviation sigma_rel of that profile is their length (Karras et al. 2024, arXiv 2312.02696, Section
3). Snapshots of a few lengths can be combined after training into an average of any length. Times are in
images seen.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from genplug.config import TrainConfig

FloatArray = NDArray[np.float64]
Numbers = ArrayLike | float


def exp_to_std(exponent: Numbers) -> FloatArray:
    """sigma_rel of the profile t^gamma: sqrt((gamma+1) / ((gamma+2)^2 (gamma+3))) (Equation 123)."""
    gamma = np.asarray(exponent, dtype=np.float64)
    return np.asarray(np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))))


def std_to_exp(std: Numbers) -> FloatArray:
    """gamma of a sigma_rel: the inverse of `exp_to_std`, the root that Equation 126 asks for.

    With u = gamma + 2 and t = 1 / std^2 it is the largest root of u^3 + u^2 - t u + t = 0, less 2.
    """
    stds = np.asarray(std, dtype=np.float64)
    cubics = ((1.0, 1.0, -t, t) for t in np.ravel(stds) ** -2.0)
    return np.reshape([max(np.roots(cubic).real) - 2 for cubic in cubics], stds.shape)


def power_function_beta(std: Numbers, t_next: Numbers, t_delta: Numbers) -> FloatArray:
    """Weight of the old average at a step that ends at `t_next` and took `t_delta` (Equation 127)."""
    return np.asarray((1 - np.asarray(t_delta) / np.asarray(t_next)) ** (std_to_exp(std) + 1))


def power_function_response(ofs: Numbers, std: Numbers, length: int, axis: int = 0) -> FloatArray:
    """Profiles that end at `ofs`, sampled at 0..length-1 along a new `axis`, of sum 1 (Equation 121)."""
    ends, stds = np.broadcast_arrays(np.asarray(ofs, dtype=np.float64), std)
    ends = np.expand_dims(ends, axis)
    gamma = np.expand_dims(std_to_exp(stds), axis)
    shape = [1] * ends.ndim
    shape[axis] = -1
    t = np.arange(length).reshape(shape)
    response = np.where(np.asarray(t <= ends), (t / ends) ** gamma, 0)
    return np.asarray(response / response.sum(axis=axis, keepdims=True))


def power_function_correlation(a_ofs: Numbers, a_std: Numbers, b_ofs: Numbers, b_std: Numbers) -> FloatArray:
    """Inner product over time of profiles a and b, each of unit area, broadcast together (Equation 151)."""
    a_end, b_end = np.asarray(a_ofs, dtype=np.float64), np.asarray(b_ofs, dtype=np.float64)
    a_gamma, b_gamma = std_to_exp(a_std), std_to_exp(b_std)
    shorter, longer = np.minimum(a_end, b_end), np.maximum(a_end, b_end)
    longer_gamma = np.where(np.asarray(a_end < b_end), b_gamma, a_gamma)
    height = (shorter / longer) ** longer_gamma / longer  # of the longer profile where the shorter one ends
    return np.asarray(height * (a_gamma + 1) * (b_gamma + 1) / (a_gamma + b_gamma + 1))


def solve_posthoc_coefficients(
    in_ofs: Numbers, in_std: Numbers, out_ofs: Numbers, out_std: Numbers
) -> FloatArray:
    """Least-squares weights, [inputs, outputs], from stored averages to others; columns sum to 1 (Alg. 3)."""
    ends, stds = (np.ravel(a) for a in np.broadcast_arrays(in_ofs, in_std))
    wanted_ends, wanted_stds = (np.ravel(a) for a in np.broadcast_arrays(out_ofs, out_std))
    gram = power_function_correlation(ends[:, None], stds[:, None], ends, stds)
    cross = power_function_correlation(ends[:, None], stds[:, None], wanted_ends, wanted_stds)
    weights = np.linalg.solve(gram, cross)
    return np.asarray(weights / weights.sum(axis=0))


@torch.no_grad()
def reconstruct(
    snapshots: Iterable[Mapping[str, Tensor]], coefficients: Sequence[float], buffers: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Weighted sum of state dicts, read one at a time and summed in float32.

    Names in `buffers` and integer tensors are taken from the last snapshot instead. `coefficients` is one
    column of `solve_posthoc_coefficients`.
    """
    copied = set(buffers)
    total: dict[str, Tensor] = {}
    for snapshot, weight in zip(snapshots, coefficients, strict=True):
        for name, value in snapshot.items():
            if name in copied or not value.is_floating_point():
                total[name] = value.clone()
            elif name in total:
                total[name].add_(value.float(), alpha=float(weight))
            else:
                total[name] = value.float() * float(weight)
    return total


class _Averages(ABC):
    """Copies of a network that follow its parameters by interpolation and its buffers by copying."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        self._copies = {name: copy.deepcopy(module).eval().requires_grad_(False) for name in names}

    @abstractmethod
    def _keep(self, images_seen: int, batch: int) -> dict[str, float]:
        """Share of the old average in the new one, per copy."""

    @torch.no_grad()
    def update(self, module: nn.Module, images_seen: int, batch: int) -> None:
        """Follow `module` after a step of `batch` images that ended at `images_seen` images."""
        for name, keep in self._keep(images_seen, batch).items():
            average = self._copies[name]
            for mean, new in zip(average.parameters(), module.parameters(), strict=True):
                mean.lerp_(new.detach().to(mean), 1 - keep)
            for old, buffer in zip(average.buffers(), module.buffers(), strict=True):
                old.copy_(buffer)

    def averages(self) -> dict[str, nn.Module]:
        """The averaged networks by name, in evaluation mode; they change with the next update."""
        return dict(self._copies)


class PowerFunctionEMA(_Averages):
    """Power-function averages of relative lengths `stds`, named as '0.050' (Equation 127)."""

    def __init__(self, module: nn.Module, stds: Sequence[float] = (0.050, 0.100)) -> None:
        self._stds = {f"{std:.3f}" if round(std, 3) == std else repr(std): std for std in stds}
        super().__init__(module, list(self._stds))

    def _keep(self, images_seen: int, batch: int) -> dict[str, float]:
        return {name: float(power_function_beta(std, images_seen, batch)) for name, std in self._stds.items()}


class HalfLifeEMA(_Averages):
    """Exponential average named 'ema' in which a step's weight halves every `half_life` images.

    With `rampup_ratio` the half-life is at most that share of the images seen, so that the first averages are
    not dominated by the initial weights (EDM: 0.05).
    """

    def __init__(self, module: nn.Module, half_life: float, rampup_ratio: float | None = None) -> None:
        super().__init__(module, ["ema"])
        self.half_life = half_life
        self.rampup_ratio = rampup_ratio

    def _keep(self, images_seen: int, batch: int) -> dict[str, float]:
        half_life = self.half_life
        if self.rampup_ratio is not None:
            half_life = min(half_life, images_seen * self.rampup_ratio)
        return {"ema": 0.5 ** (batch / half_life) if half_life > 0 else 0.0}


def make_averages(module: nn.Module, config: TrainConfig) -> list[_Averages]:
    """Return the weight averages that a configuration asks for."""
    averages: list[_Averages] = []
    if config.ema_halflife:
        averages.append(HalfLifeEMA(module, config.ema_halflife * config.batch_size))
    if config.ema_std:
        averages.append(PowerFunctionEMA(module, config.ema_std))
    return averages
