"""What a sample is conditioned on, as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """A batch of conditions: one kind of the four, or none (`Condition.null(n)`).

    labels_N     int64 in [0, K); -1 for no label, where the generator provides `null-label`
    weights_NK   float32 soft class weights
    features_ND  float32 feature vectors
    prompts      texts
    """

    labels_N: Tensor | None = None
    weights_NK: Tensor | None = None
    features_ND: Tensor | None = None
    prompts: tuple[str, ...] | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"a condition has one kind, not {' and '.join(given)}")
        if not given and self.count is None:
            raise ValueError("an empty condition needs its count")

    def __len__(self) -> int:
        value = self._value()
        return len(value) if value is not None else int(self.count or 0)

    @property
    def is_null(self) -> bool:
        """True if this is the absent condition of an unconditional branch."""
        return self._value() is None

    def null(self) -> Condition:
        """Return as many absent conditions."""
        return Condition(count=len(self))

    def dropped(self, rows_N: Tensor) -> Condition:
        """Return these labels with -1, no label, in the rows (bool N) that are true."""
        if self.labels_N is None:
            raise ValueError("only labels can be dropped row by row")
        return Condition(labels_N=torch.where(rows_N.to(self.labels_N.device), -1, self.labels_N))

    def label_rows(self, num_classes: int) -> Tensor | None:
        """Return class weights, float32 NK: one-hot labels (zeros for label -1), soft weights as they are.

        None where the condition is absent; features and prompts raise ValueError.
        """
        if self.is_null:
            return None
        if self.weights_NK is not None:
            return self.weights_NK.to(torch.float32)
        if self.labels_N is None:
            raise ValueError("expected labels or class weights as condition")
        one_hot_NK = F.one_hot(self.labels_N.clamp_min(0), num_classes).to(torch.float32)
        return one_hot_NK * (self.labels_N >= 0)[:, None]

    def feature_rows(self, width: int) -> Tensor | None:
        """Return features as f / ||f||, float32 ND, as long as a one-hot row; a zero row stays one.

        None where the condition is absent; anything else, and another width, raises ValueError.
        """
        if self.is_null:
            return None
        if self.features_ND is None:
            raise ValueError("this network is conditioned on features")
        if self.features_ND.shape[1] != width:
            raise ValueError(f"features are {self.features_ND.shape[1]} wide; the network takes {width}")
        return F.normalize(self.features_ND.to(torch.float32), dim=1)

    def take(self, index: Tensor | slice) -> Condition:
        """Return the rows at an index tensor or slice."""
        return self._map(lambda value: value[index], lambda texts: _take(texts, index), index)

    def to(self, device: torch.device | str) -> Condition:
        """Return a copy on a device."""
        return self._map(lambda value: value.to(device), lambda texts: texts, slice(None))

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Join batches of one kind."""
        kinds = {next((n for n in _KINDS if getattr(c, n) is not None), None) for c in conditions}
        if len(kinds) != 1:
            raise ValueError(f"cannot join conditions of different kinds: {sorted(map(str, kinds))}")
        name = kinds.pop()
        if name is None:
            return Condition(count=sum(map(len, conditions)))
        values: list[Any] = [getattr(condition, name) for condition in conditions]
        joined: Any = sum(values, ()) if name == "prompts" else torch.cat(values)
        return Condition(**{name: joined})

    def _value(self) -> Any:
        return next((getattr(self, name) for name in _KINDS if getattr(self, name) is not None), None)

    def _map(self, tensor: Any, text: Any, index: Tensor | slice) -> Condition:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _KINDS and value is not None:
                return replace(
                    self, **{field.name: text(value) if field.name == "prompts" else tensor(value)}
                )
        return Condition(
            count=len(torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index])
        )


_KINDS = ("labels_N", "weights_NK", "features_ND", "prompts")


def _take(texts: tuple[str, ...], index: Tensor | slice) -> tuple[str, ...]:
    if isinstance(index, slice):
        return texts[index]
    rows = index.nonzero().flatten() if index.dtype == torch.bool else index
    return tuple(texts[int(i)] for i in rows)
