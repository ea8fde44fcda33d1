"""What makes two sample sets hard to compare, found before they are scored: copies, uneven classes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genplug.log import Log
from genplug.samplesets import BATCH, SampleSet, own_features, read_each, row_name

DECODED_AT_MOST = 20_000  # samples that are read for the sake of finding copies alone
_SHOWN = 3


def compare(first: SampleSet, second: SampleSet, log: Log) -> dict[str, Any]:
    """Return copies and class balance of two sets as plain data; what disturbs scores is warned of."""
    found: dict[str, Any] = {}
    if (copies := shared_rows(first, second)) is not None:
        found["copies"] = len(copies)
        if copies:
            names = ", ".join(row_name(second, row) for row in copies[:_SHOWN])
            more = f" and {len(copies) - _SHOWN} more" if len(copies) > _SHOWN else ""
            log.warn(
                f"{second.name} has {len(copies)} exact copies of samples of {first.name}: {names}{more}"
            )
    if first.labels is not None and second.labels is not None:
        distance, noise = class_distance(first.labels, second.labels)
        found["class_distance"] = distance
        if distance > 2 * noise:
            log.warn(
                f"classes are not equally frequent in {first.name} and {second.name} (total variation "
                f"{distance:.3f}, about {noise:.3f} by chance): scores show that difference too"
            )
    return found


def shared_rows(first: SampleSet, second: SampleSet) -> list[int] | None:
    """Return the rows of the second set that are in the first too; None if that was not looked into.

    Files are compared by their bytes; sets of other kinds by what they hold, if they are not too many.
    """
    if own_features(first) or own_features(second) or first is second:
        return None
    digests = [getattr(samples, "file_digests", None) for samples in (first, second)]
    if None in digests:
        files = sum(len(samples) for samples, known in zip((first, second), digests, strict=True) if known)
        if files > DECODED_AT_MOST:
            return None
        digests = [_row_digests(samples) for samples in (first, second)]
    known = set(digests[0] or ())
    return [row for row, digest in enumerate(digests[1] or ()) if digest in known]


def _row_digests(samples: SampleSet) -> list[str]:
    found = []
    for start in range(0, len(samples), BATCH):
        for sample in read_each(samples, range(start, min(start + BATCH, len(samples)))):
            head = f"{sample.dtype}:{tuple(sample.shape)}:".encode()
            found.append(hashlib.blake2b(head + sample.contiguous().numpy().tobytes()).hexdigest())
    return found


def class_distance(first_N: Tensor, second_M: Tensor) -> tuple[float, float]:
    """Return the total variation between two sets' class shares, and what chance alone gives on average.

    By chance each share differs by a normal variable of variance p (1 - p) (1/n + 1/m).
    """
    both, places = torch.cat([first_N, second_M]).unique(return_inverse=True)
    first_N, second_M, classes = places[: len(first_N)], places[len(first_N) :], len(both)
    p_K, q_K = (
        torch.bincount(labels, minlength=classes).double() / len(labels) for labels in (first_N, second_M)
    )
    pooled_K = torch.bincount(torch.cat([first_N, second_M]), minlength=classes).double()
    pooled_K /= pooled_K.sum()
    spread_K = (pooled_K * (1 - pooled_K) * (1 / len(first_N) + 1 / len(second_M))).sqrt()
    return float((p_K - q_K).abs().sum() / 2), float(spread_K.sum() / 2) * math.sqrt(2 / math.pi)


def describe(samples: SampleSet) -> dict[str, Any]:
    """Return what a set is, as plain data."""
    facts: dict[str, Any] = {"name": samples.name, "count": len(samples), "shape": list(samples.shape)}
    if samples.labels is not None:
        facts["classes"] = len(samples.labels.unique())
    notes: Sequence[str] = getattr(samples, "notes", ())
    return facts | ({"notes": list(notes)} if notes else {})
