"""`SampleSet`: the one form in which samples go in and out.

A sample set knows its count, shape, modality, labels and fingerprint, and reads rows on demand,
so that memory is bounded by the batch. `genplug.readers` opens files, folders, data sets and
run directories as sample sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from genplug.errors import DataError, NonFiniteError

if TYPE_CHECKING:
    from genplug.extraction import Want

BATCH = 256


@runtime_checkable
class SampleSet(Protocol):
    """Samples: uint8 images NCHW with 1 or 3 channels, or float32 points ND."""

    name: str
    labels: Tensor | None  # int64 N

    @property
    def fingerprint(self) -> str:
        """Return a digest of the contents, the same wherever they are stored."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample, CHW or D."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return the samples at these rows, in this order."""


class ArraySet:
    """Samples in memory (or memory-mapped), channels first."""

    def __init__(self, samples: Tensor, labels: Tensor | None = None, name: str = "samples") -> None:
        _check_samples(samples, name)
        if labels is not None and len(labels) != len(samples):
            raise DataError(f"{name}: {len(samples)} samples but {len(labels)} labels")
        self.samples, self.labels, self.name = samples, labels, name

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest of shape, type, values and labels."""
        return content_digest(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample."""
        return tuple(self.samples.shape[1:])

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return the samples at these rows."""
        return self.samples[torch.as_tensor(rows, dtype=torch.int64)]


class Subset:
    """Some rows of another set, in a given order."""

    def __init__(self, whole: SampleSet, rows: Sequence[int], name: str | None = None) -> None:
        self.whole, self.rows, self.name = whole, list(rows), name or whole.name
        self.labels = (
            None if whole.labels is None else whole.labels[torch.as_tensor(self.rows, dtype=torch.int64)]
        )

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest of the whole's fingerprint and the rows."""
        return hashlib.sha256(f"{self.whole.fingerprint}:{self.rows}".encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample."""
        return self.whole.shape

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return the samples at these rows of the subset."""
        return self.whole.read([self.rows[i] for i in rows])

    def read_each(self, rows: Sequence[int]) -> list[Tensor]:
        """Return the samples one by one."""
        return read_each(self.whole, [self.rows[i] for i in rows])

    def row_name(self, row: int) -> str:
        """Return what the whole calls this row."""
        return row_name(self.whole, self.rows[row])


class Quantised:
    """Another set with its grey levels rounded to `levels` equally spaced ones."""

    def __init__(self, whole: SampleSet, levels: int) -> None:
        self.whole, self.levels, self.name, self.labels = whole, levels, whole.name, whole.labels

    @property
    def fingerprint(self) -> str:
        """Return the whole's fingerprint and the number of levels."""
        return f"{self.whole.fingerprint}:{self.levels}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample."""
        return self.whole.shape

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return rows with value v as round(round(v (L-1) / 255) * 255 / (L-1))."""
        top = self.levels - 1
        level = (self.whole.read(rows).to(torch.float32) * (top / 255)).round()
        return (level * (255 / top)).round().to(torch.uint8)


class Coloured:
    """Grey images over three channels, to be compared with images in colour."""

    def __init__(self, whole: SampleSet) -> None:
        self.whole, self.name, self.labels = whole, whole.name, whole.labels

    @property
    def fingerprint(self) -> str:
        """Return the whole's fingerprint, marked."""
        return f"{self.whole.fingerprint}:rgb"

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample."""
        return (3, *self.whole.shape[1:])

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return the samples at these rows."""
        return self.whole.read(rows).expand(-1, 3, -1, -1)

    def read_each(self, rows: Sequence[int]) -> list[Tensor]:
        """Return the samples one by one."""
        return [sample.expand(3, -1, -1) for sample in read_each(self.whole, rows)]

    def row_name(self, row: int) -> str:
        """Return what the whole calls this row."""
        return row_name(self.whole, row)


class Joined:
    """Several sets of one shape, one after the other."""

    def __init__(self, parts: Sequence[SampleSet], name: str) -> None:
        shapes = {part.shape for part in parts}
        if len(shapes) > 1:
            raise DataError(f"{name}: cannot join samples of shapes {sorted(shapes)}")
        self.parts, self.name = list(parts), name
        labels = [part.labels for part in parts if part.labels is not None]
        self.labels = torch.cat(labels) if labels and len(labels) == len(self.parts) else None
        self._starts = [0]
        for part in parts:
            self._starts.append(self._starts[-1] + len(part))

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest of the parts' fingerprints."""
        return hashlib.sha256(":".join(part.fingerprint for part in self.parts).encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample."""
        return self.parts[0].shape

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return the samples at these rows of the whole."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        owner = torch.bucketize(index, torch.tensor(self._starts[1:]), right=True)
        pieces, order = [], []
        for number in owner.unique().tolist():
            at = (owner == number).nonzero().flatten()
            pieces.append(self.parts[number].read((index[at] - self._starts[number]).tolist()))
            order.append(at)
        return torch.cat(pieces)[torch.cat(order).argsort()]


def batches(samples: SampleSet, size: int = BATCH) -> Iterator[Tensor]:
    """Yield all samples in order, `size` at a time."""
    for start in range(0, len(samples), size):
        yield samples.read(range(start, min(start + size, len(samples))))


def read_each(samples: SampleSet, rows: Sequence[int]) -> list[Tensor]:
    """Return the samples at these rows one by one, so that their sizes may differ."""
    one_by_one: Callable[[Sequence[int]], list[Tensor]] | None = getattr(samples, "read_each", None)
    return one_by_one(rows) if one_by_one else list(samples.read(rows))


def row_name(samples: SampleSet, row: int) -> str:
    """Return what a row is called: its file, or its number."""
    named: Callable[[int], str] | None = getattr(samples, "row_name", None)
    return named(row) if named else f"sample {row}"


def own_features(samples: SampleSet) -> Callable[[Want], Tensor] | None:
    """Return how to get the features that a set brings along instead of samples; None if it has samples."""
    found: Callable[[Want], Tensor] | None = getattr(samples, "own_features", None)
    return found


def read_all(samples: SampleSet) -> Tensor:
    """Return all samples as one tensor (for sets that fit in memory)."""
    return samples.read(range(len(samples)))


def first(samples: SampleSet, n: int) -> SampleSet:
    """Return the first n samples; too few is an error that names the set."""
    if len(samples) < n:
        raise DataError(f"{samples.name} has {len(samples)} samples; {n} are needed")
    return samples if len(samples) == n else Subset(samples, range(n))


def subsample(samples: SampleSet, n: int, seed: int) -> SampleSet:
    """Return n samples drawn without replacement by a seed, in their old order; all of them if n is all."""
    if n >= len(samples):
        return samples
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    return Subset(samples, order[:n].sort().values.tolist())


def content_digest(samples: SampleSet) -> str:
    """Return a sha256 over count, shape, labels, type and values, read in batches."""
    labels = None if samples.labels is None else samples.labels.tolist()
    hasher = hashlib.sha256(f"{len(samples)}:{samples.shape}:{labels}".encode())
    for batch in batches(samples):
        hasher.update(str(batch.dtype).encode())
        hasher.update(batch.contiguous().numpy().tobytes())
    return hasher.hexdigest()


def map_rows(samples: SampleSet, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a function of every batch, joined."""
    return torch.cat([function(batch) for batch in batches(samples)])


def check_finite(x: Tensor, seeds_N: Tensor) -> None:
    """Raise `NonFiniteError` that names the seed of the first sample with a NaN or an infinity."""
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise NonFiniteError(not_finite(x, seeds_N))


def not_finite(x: Tensor, seeds_N: Tensor) -> str:
    """Return how many samples are not finite, and the seed of the first: the start of a sentence."""
    rows = (~x.isfinite()).flatten(1).any(1).nonzero().flatten()
    seed = int(seeds_N[rows[0]])
    if len(rows) == 1:
        return f"the sample of seed {seed} is not finite"
    return f"{len(rows)} of {len(x)} samples are not finite, the first (seed {seed})"


def _check_samples(samples: Tensor, name: str) -> None:
    """Refuse what is neither uint8 images NCHW nor float32 points ND."""
    images = samples.dtype == torch.uint8 and samples.ndim == 4 and samples.shape[1] in (1, 3)
    points = samples.dtype == torch.float32 and samples.ndim == 2
    if not images and not points:
        raise DataError(
            f"{name}: shape {tuple(samples.shape)} of {samples.dtype} is neither uint8 images "
            "(N, 1 or 3, H, W) nor float32 points (N, D)"
        )
    if samples.numel() == 0:
        raise DataError(f"{name} is empty")
    if points and not bool(samples.isfinite().all()):
        raise DataError(f"{name} holds numbers that are not finite")
