"""The generator `folder`: samples that were made elsewhere, handed out by seed.

A fixed permutation cuts the rows (of each class, where labels are used) into two halves. Seeds of
training, pools and selection take rows of the first, those of samples and reports rows of the second: an
objective never trains on what it is judged by. Within a purpose and a block of seeds no row comes twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.errors import DataError, WeightsError
from genplug.opening import open_samples
from genplug.protocols import Policy
from genplug.random import BLOCK_BITS, INDEX_BITS, PURPOSES, RUN_BITS
from genplug.runtime import Run
from genplug_files.config import FolderConfig

TRAINING = tuple(PURPOSES.index(purpose) for purpose in ("train", "pool", "select"))
FINGERPRINT = "samples"
_SPLIT_SEED = 0


class Folder:
    """Samples of a path by seed. `size` is how many each purpose has."""

    def __init__(self, config: FolderConfig, run: Run) -> None:
        self.path, self.samples = config.path, open_samples(run, Path(config.path))
        self.provides = config.provides()
        self.modality = "points" if len(self.samples.shape) == 1 else "image"
        self.halves = self._halves(config.labels)
        self.size: int | None = len(self.halves) * min(len(half) for both in self.halves for half in both)
        if not self.size:
            raise DataError(
                f"{self.path} has too few samples: every class needs two, for training and report"
            )

    def _halves(self, labels: bool) -> list[tuple[Tensor, Tensor]]:
        """Return the rows for training and those for reports, of each class."""
        own = self.samples.labels
        if labels and own is None:
            raise DataError(f"{self.path} has no labels; set generator.labels=false")
        order = torch.randperm(len(self.samples), generator=torch.Generator().manual_seed(_SPLIT_SEED))
        if labels and own is not None:
            groups = [order[own[order] == label] for label in range(int(own.max()) + 1)]
        else:
            groups = [order]
        return [(rows[: len(rows) // 2], rows[len(rows) // 2 :]) for rows in groups]

    def conditions(self, seeds_N: Tensor, policy: Policy = "balanced") -> Condition | None:
        """Return the label of each seed, the seed modulo the classes for either policy; None without."""
        return Condition(labels_N=seeds_N % len(self.halves)) if self.provides else None

    def sample(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the sample of each seed: of the class that is asked for, or of any."""
        labels_N = self._labels(seeds_N, cond)
        pairs = zip(seeds_N.tolist(), labels_N.tolist(), strict=True)
        return self.samples.read([self._row(seed, label) for seed, label in pairs])

    def _labels(self, seeds_N: Tensor, cond: Condition | None) -> Tensor:
        """Return which group of rows each seed draws from."""
        if not self.provides:
            return torch.zeros_like(seeds_N)
        if cond is None or cond.labels_N is None:
            raise DataError(f"{self.path} is asked for without labels; set generator.labels=false")
        if not 0 <= int(cond.labels_N.min()) <= int(cond.labels_N.max()) < len(self.halves):
            raise DataError(f"{self.path} has the classes 0 to {len(self.halves) - 1}; ask for one of them")
        return cond.labels_N

    def _row(self, seed: int, label: int) -> int:
        """Return the row of a seed.

        Blocks of seeds begin at far places of the half (van der Corput's): they share rows only where
        there are too few for all of them.
        """
        index, block = seed % 2**INDEX_BITS, (seed >> INDEX_BITS) % 2**BLOCK_BITS
        purpose = seed >> (INDEX_BITS + BLOCK_BITS + RUN_BITS)
        half = self.halves[label][0 if purpose in TRAINING else 1]
        place = index // len(self.halves)
        if place >= len(half):
            group = f"class {label} of {self.path}" if self.provides else self.path
            raise DataError(
                f"{group} has {len(half)} samples for this purpose; lower run.samples or objective.pool"
            )
        turned = int(f"{block:0{BLOCK_BITS}b}"[::-1], 2)
        return int(half[(place + turned * len(half) // 2**BLOCK_BITS) % len(half)])

    def state_dict(self) -> dict[str, Tensor]:
        """Return a digest of the samples, the only thing that results depend on."""
        digest = hashlib.sha256(self.samples.fingerprint.encode()).digest()
        return {FINGERPRINT: torch.frombuffer(bytearray(digest), dtype=torch.uint8)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Check that a state is of these very samples."""
        own = self.state_dict()
        if state.keys() != own.keys() or not torch.equal(state[FINGERPRINT].cpu(), own[FINGERPRINT]):
            raise WeightsError(f"this state is not of the samples in {self.path}")
