"""Which features a sample is conditioned on: a pure function of its seed.

    each-once         those of training images in a random order, each once, then in another order
    with-replacement  those of a training image drawn for each sample
    interpolated      (1 - t) f + t f', f each once, f' one of its nearest others (or any), t uniform
    jittered          f + jitter * standard deviation of each feature * normal noise, f each once
    held-out          those of held-out images, each once: no training image is behind them
    gaussian          of a normal distribution with the mean and covariance of the training features
    kernel            of their kernel density: f with replacement + normal noise of that covariance times
                      h^2, h = N^(-1 / (D + 4)) (Scott 1992)

Seeds of one block (`Run.seeds`) are consecutive: each block has orders of its own, and its i-th seed takes
place i. Legend: N seeds, M rows of features, D feature width, k neighbours.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from genplug.condition import Condition
from genplug.protocols import Policy
from genplug.random import INDEX_BITS, NoiseSource
from genplug.runtime import Run
from genplug_diadm.bank import Bank
from genplug_diadm.config import DrawOptions
from genplug_distances.exact import Euclidean
from genplug_distances.neighbours import nearest_others

NEIGHBOURS, HELD_OUT, MEAN, FACTOR = "neighbours", "held-out", "mean", "factor"
SALT = "features"


@dataclass(frozen=True)
class FeatureDraws:
    """The conditions of a DiADM generator: features by seed. `tensors` are what a draw needs besides them."""

    bank: Bank
    options: DrawOptions
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, seeds_N: Tensor, policy: Policy = "balanced") -> Condition:
        """Return the features of seeds; a policy is one of labels, and does not matter here."""
        return Condition(features_ND=self.features(seeds_N.cpu()))

    def sources(self, seeds_N: Tensor) -> tuple[str, Tensor] | None:
        """Return the split and the rows of the images behind the features of seeds, if there are any."""
        draw, seeds_N = self.options.draw, seeds_N.cpu()
        if draw == "gaussian":
            return None
        if draw in ("with-replacement", "kernel"):
            noise = NoiseSource(seeds_N, salt=SALT)
            return "train", noise.integers(len(self.bank.features_NC), (len(seeds_N),), "row")
        split = "held-out" if draw == "held-out" else "train"
        return split, places(seeds_N, len(self._rows))

    def features(self, seeds_N: Tensor) -> Tensor:
        """Return the features of seeds, float32 ND."""
        draw, noise = self.options.draw, NoiseSource(seeds_N, salt=SALT)
        shape = (len(seeds_N), self.bank.width)
        source = self.sources(seeds_N)
        if source is None:
            return self.tensors[MEAN] + self._coloured(noise.normal(shape, "gaussian"))
        rows_N = source[1]
        feat_ND = self._rows[rows_N]
        if draw == "interpolated":
            t_N1 = noise.uniform((len(seeds_N), 1), "between")
            return torch.lerp(feat_ND, self._rows[self.partners(rows_N, noise)], t_N1)
        if draw == "jittered":
            spread_D = self.bank.features_NC.std(0)
            jitter_ND: Tensor = self.options.jitter * spread_D * noise.normal(shape, "jitter")
            return feat_ND + jitter_ND
        if draw == "kernel":
            M, D = self.bank.features_NC.shape
            width: float = M ** (-1 / (D + 4))
            return feat_ND + width * self._coloured(noise.normal(shape, "kernel"))
        return feat_ND

    @property
    def _rows(self) -> Tensor:
        return self.tensors[HELD_OUT] if self.options.draw == "held-out" else self.bank.features_NC

    def partners(self, rows_N: Tensor, noise: NoiseSource) -> Tensor:
        """Return the rows that the given ones are mixed with, never the same ones."""
        if NEIGHBOURS in self.tensors:
            near_Nk = self.tensors[NEIGHBOURS][rows_N]
            at_N1 = noise.integers(near_Nk.shape[1], (len(rows_N), 1), "partner")
            return near_Nk.gather(1, at_N1)[:, 0]
        M = len(self.bank.features_NC)
        return (rows_N + 1 + noise.integers(M - 1, (len(rows_N),), "partner")) % M

    def _coloured(self, normal_ND: Tensor) -> Tensor:
        """Return normal noise with the features' covariance, row by row: batches change no digit."""
        return torch.stack([self.tensors[FACTOR] @ row for row in normal_ND])


def make_draws(run: Run, bank: Bank, options: DrawOptions) -> FeatureDraws:
    """Return how samples get their features, with what that takes."""
    tensors: dict[str, Tensor] = {}
    if options.draw == "held-out":
        tensors[HELD_OUT] = bank.of(run, "held-out")
    if options.draw in ("gaussian", "kernel"):
        tensors = normal_of(bank.features_NC)
    if options.draw == "interpolated" and options.neighbours:
        k = min(options.neighbours, len(bank.features_NC) - 1)
        directions_MD = F.normalize(bank.features_NC, dim=1)  # what the network sees of them
        tensors[NEIGHBOURS] = nearest_others(run, Euclidean(), directions_MD, k)[1].cpu()
    return FeatureDraws(bank, options, tensors)


def normal_of(feat_MD: Tensor) -> dict[str, Tensor]:
    """Return mean and a square root of the covariance, DD, of features; few rows may span less."""
    mean_D = feat_MD.double().mean(0)
    values_D, vectors_DD = torch.linalg.eigh((feat_MD.double() - mean_D).T.cov())
    return {MEAN: mean_D.float(), FACTOR: (vectors_DD * values_D.clamp_min(0).sqrt()).float()}


def places(seeds_N: Tensor, count: int) -> Tensor:
    """Return rows in [0, count) so that consecutive seeds of a block take each once before any again."""
    index_N, block_N = seeds_N & ((1 << INDEX_BITS) - 1), seeds_N >> INDEX_BITS
    triples = zip(index_N.tolist(), block_N.tolist(), strict=True)
    return torch.tensor([int(_order(count, block, i // count)[i % count]) for i, block in triples])


@functools.lru_cache(maxsize=8)
def _order(count: int, block: int, epoch: int) -> Tensor:
    """Return the order of rows in one pass of one block of seeds."""
    g = torch.Generator().manual_seed(zlib.crc32(f"{SALT}:{block}:{epoch}".encode()))
    return torch.randperm(count, generator=g)
