"""The data set `files`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from genplug.errors import DataError
from genplug.opening import open_samples
from genplug.runtime import Run
from genplug.samplesets import SampleSet, Subset
from genplug_files.config import FilesConfig

SPLITS = ("train", "held-out")
_SPLIT_SEED = 0


class FilesDataset:
    """Samples of a path, split once and for all by a fixed permutation."""

    def __init__(self, config: FilesConfig, run: Run) -> None:
        self.config, self.levels = config, config.levels
        self.whole = open_samples(run, Path(config.path))
        self.apart = open_samples(run, Path(config.held_out_path)) if config.held_out_path else None
        labels = self.whole.labels
        self.num_classes = None if labels is None else int(labels.max()) + 1

    def split(self, name: str) -> SampleSet:
        """Return `train` or `held-out`."""
        if name not in SPLITS:
            raise DataError(f"{self.config.path} has the splits {', '.join(SPLITS)}, not {name!r}")
        if self.apart is not None:
            return self.whole if name == "train" else self.apart
        return self._parts[SPLITS.index(name)]

    @cached_property
    def _parts(self) -> tuple[SampleSet, SampleSet]:
        count = round(len(self.whole) * self.config.held_out)
        if not 0 < count < len(self.whole):
            raise DataError(f"{self.config.path}: {len(self.whole)} samples are too few to hold {count} out")
        order = torch.randperm(len(self.whole), generator=torch.Generator().manual_seed(_SPLIT_SEED))
        train, held = order[count:].sort().values.tolist(), order[:count].sort().values.tolist()
        return (
            Subset(self.whole, train, f"{self.config.path}:train"),
            Subset(self.whole, held, f"{self.config.path}:held-out"),
        )
