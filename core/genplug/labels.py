"""Class labels of images on disk: `dataset.json` in NVlabs' layout, arrays, or subfolders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.registry import one_line

LABELS_FILE = "dataset.json"
CLASSES = 1_000_000


def listed(content: bytes) -> dict[str, int]:
    """Return the labels of a `dataset.json` by image name; none if it says `"labels": null`."""
    try:
        value = json.loads(content)
        entries = (value.get("labels") if isinstance(value, dict) else value["labels"]) or ()
        pairs = [(name, label) for name, label in entries]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{LABELS_FILE} is not in NVlabs' layout ({one_line(error)[:80]})") from None
    labels: dict[str, int] = {}
    for name, label in pairs:
        if not isinstance(name, str) or type(label) is not int or not 0 <= label < CLASSES:
            raise DataError(
                f"{LABELS_FILE}: label {_short(label)} of {_short(name)} is not a whole number "
                f"from 0 to {CLASSES - 1:,}"
            )
        if name in labels:
            raise DataError(f"{LABELS_FILE} has two labels for {name[:80]}")
        labels[name] = label
    return labels


def from_folders(names: Iterable[str], every: Sequence[str]) -> Tensor | None:
    """Return labels by the first folder of each name; classes are those of `every` name, sorted.

    None where an image lies in no folder or all lie in one.
    """
    folders = {parts[0] if len(parts := PurePosixPath(name).parts) > 1 else None for name in every}
    if None in folders or len(folders) < 2:
        return None
    number = {folder: index for index, folder in enumerate(sorted(map(str, folders)))}
    return torch.tensor([number[PurePosixPath(name).parts[0]] for name in names])


def from_array(array: np.ndarray[Any, Any]) -> Tensor:
    """Return an array's labels as int64."""
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"labels are {array.dtype} of shape {array.shape}, not one whole number per sample")
    if array.size and not (int(array.min()) >= 0 and int(array.max()) < CLASSES):
        raise DataError(f"labels from {array.min()} to {array.max()} are not within 0 to {CLASSES - 1:,}")
    return torch.from_numpy(array.astype(np.int64))


def _short(value: object) -> str:
    """Return a hostile value as a few characters."""
    plain = isinstance(value, str | float | None) or (isinstance(value, int) and abs(value) < 2**64)
    return repr(value)[:40] if plain else type(value).__name__
