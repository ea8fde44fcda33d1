"""The order in which training rows are drawn."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genplug.errors import ConfigError

if TYPE_CHECKING:
    from genplug.fit import Rows


class Order:
    """The order in which rows are drawn: each epoch a new permutation, a pure function of position.

    With `balance`, position p draws class p mod K, and each class is shuffled on its own.
    """

    def __init__(self, rows: Rows, seed: int, name: str, balance: bool) -> None:
        self.seed, self.name = seed, name
        if balance and rows.labels is None:
            raise ConfigError("train.balance needs labels; the data has none")
        if balance and rows.labels is not None:
            self.groups = [(rows.labels == label).nonzero().flatten() for label in rows.labels.unique()]
        else:
            self.groups = [torch.arange(len(rows))]
        self._epochs: dict[tuple[int, int], Tensor] = {}

    def rows(self, positions: Tensor) -> Tensor:
        """Return the row numbers drawn at positions (int64, 0, 1, 2, ... over the whole training)."""
        group_N, place_N = positions % len(self.groups), positions // len(self.groups)
        drawn = [self._row(int(group), int(place)) for group, place in zip(group_N, place_N, strict=True)]
        return torch.tensor(drawn, dtype=torch.int64)

    def _row(self, group: int, place: int) -> int:
        epoch, at = divmod(place, len(self.groups[group]))
        if (group, epoch) not in self._epochs:
            self._epochs = {k: v for k, v in self._epochs.items() if k[1] >= epoch - 1}
            source = torch.Generator().manual_seed(
                zlib.crc32(f"{self.seed}:{self.name}:{group}:{epoch}".encode())
            )
            self._epochs[group, epoch] = self.groups[group][
                torch.randperm(len(self.groups[group]), generator=source)
            ]
        return int(self._epochs[group, epoch][at])
