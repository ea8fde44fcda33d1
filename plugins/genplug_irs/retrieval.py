"""Which training image each sample retrieves: its nearest one in an extractor's space.

Legend: N training rows, n queries, D feature width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from genplug.config import Component
from genplug.errors import DataError
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug_distances.neighbours import nearest_of

ROWS = 1024  # at a time


@dataclass(frozen=True)
class Corpus:
    """Training features, each row once: of equal ones only the first could ever be retrieved."""

    feat_ND: Tensor
    repeated: int

    def __len__(self) -> int:
        return len(self.feat_ND)


def corpus_of(feat_ND: Tensor) -> Corpus:
    """Leave out repetitions; first occurrences in order. Without any, the rows are not copied."""
    seen: set[bytes] = set()
    kept_N = torch.tensor([_is_new(digest, seen) for digest in _digests(feat_ND)])
    repeated = len(feat_ND) - len(seen)
    return Corpus(feat_ND[kept_N] if repeated else feat_ND, repeated)


def _digests(feat_ND: Tensor) -> Iterator[bytes]:
    """Yield a digest of each row: memory for all of them is small, whatever D is."""
    for block_ND in feat_ND.split(ROWS):
        for row_D in (block_ND + 0.0).contiguous().numpy():  # -0 becomes 0
            yield hashlib.blake2b(row_D, digest_size=16).digest()


def _is_new(digest: bytes, seen: set[bytes]) -> bool:
    """Tell whether a digest was not seen yet, and remember it."""
    before = len(seen)
    seen.add(digest)
    return len(seen) > before


@dataclass(frozen=True)
class Retrieved:
    """What n queries retrieve: distance and row number of the nearest of N training rows."""

    d_n: Tensor
    index_n: Tensor
    N: int

    def take(self, rows: Tensor) -> Retrieved:
        """Return what some of the queries retrieve."""
        return Retrieved(self.d_n[rows], self.index_n[rows], self.N)

    @cached_property
    def counts_N(self) -> Tensor:
        """How often each training row is retrieved."""
        return torch.bincount(self.index_n, minlength=self.N)

    @cached_property
    def k(self) -> int:
        """How many distinct ones (Eq. 3)."""
        return int((self.counts_N > 0).sum())

    @property
    def copies(self) -> int:
        """How many queries are training rows themselves."""
        return int((self.d_n == 0).sum())


def retrieve(run: Run, queries_nD: Tensor, corpus: Corpus, reference: Component) -> Retrieved:
    """Find each query's nearest training row; ties by the lowest row."""
    distance = run.component("distance", reference)
    try:
        d_n1, index_n1 = nearest_of(run, distance, queries_nD, corpus.feat_ND, 1)
    except ValueError as error:  # features that this distance is undefined for
        raise DataError(f"distance {reference.name!r}: {error}") from None
    return Retrieved(d_n1[:, 0], index_n1[:, 0], len(corpus))


def two_pools(held_out: SampleSet | None, train: SampleSet | None) -> tuple[SampleSet, SampleSet]:
    """Return real samples that no training saw, and the training samples; refuse one set for both."""
    remedy = (
        "split what you have: 50,000 images as REAL (half of them, if there are fewer than 100,000), "
        "the others as --train"
    )
    if held_out is None or train is None:
        raise DataError(f"retrieval needs training images and real ones that no training saw; {remedy}")
    if held_out.fingerprint == train.fingerprint:
        raise DataError(f"{held_out.name} and {train.name} are the same images; {remedy}")
    return held_out, train


def check_held_out(found: Retrieved, name: str, extractor: str) -> None:
    """Refuse real samples that are mostly training samples themselves."""
    if 2 * found.copies > len(found.d_n):
        raise DataError(
            f"{found.copies} of {len(found.d_n)} samples of {name} are training samples, as {extractor} sees "
            "them; take real samples that no training saw"
        )
