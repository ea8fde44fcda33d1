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
        self.sizes = torch.tensor([len(group) for group in self.groups])
        self._epochs: dict[tuple[int, int], Tensor] = {}

    def rows(self, positions: Tensor) -> Tensor:
        """Return the row numbers drawn at positions (int64, 0, 1, 2, ... over the whole training)."""
        group_N, place_N = positions % len(self.groups), positions // len(self.groups)
        size_N = self.sizes[group_N]
        epoch_N, at_N = place_N // size_N, place_N % size_N
        turns, turn_N, counts = torch.stack([group_N, epoch_N]).unique(
            dim=1, return_inverse=True, return_counts=True
        )
        drawn_N = torch.empty_like(positions)
        for (group, epoch), here in zip(
            turns.T.tolist(), turn_N.argsort().split(counts.tolist()), strict=True
        ):
            drawn_N[here] = self._turn(group, epoch)[at_N[here]]
        return drawn_N

    def _turn(self, group: int, epoch: int) -> Tensor:
        """Return the order of a group's rows in one epoch."""
        if (group, epoch) not in self._epochs:
            self._epochs = {k: v for k, v in self._epochs.items() if k[1] >= epoch - 1}
            source = torch.Generator().manual_seed(
                zlib.crc32(f"{self.seed}:{self.name}:{group}:{epoch}".encode())
            )
            order = torch.randperm(len(self.groups[group]), generator=source)
            self._epochs[group, epoch] = self.groups[group][order]
        return self._epochs[group, epoch]
