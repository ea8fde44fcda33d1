"""One pass over a sample set: read and preprocessed ahead in threads, seen by several extractors.

Rows are cut into batches and batches into chunks. A finished chunk goes to the caller's store, so that
a killed extraction continues with the same batches; chunks are also what processes share out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from genplug.errors import DataError, unknown
from genplug.images import quiet
from genplug.memory import Fitting
from genplug.samplesets import SampleSet, read_each, row_name

if TYPE_CHECKING:
    from genplug.protocols import Extractor
    from genplug.runtime import Run

INPUT_BYTES = 2**26  # of the preprocessed samples in a batch, for all extractors together
CHUNK_ROWS = 512
AHEAD = 2  # batches that are prepared while one is seen
_SHOWN = 5


@dataclass(frozen=True)
class Want:
    """Features that are wanted: one output (empty: the first) of an extractor (a reference without it)."""

    head: str
    output: str = ""

    def __str__(self) -> str:
        return f"{self.head}@{self.output}" if self.output else self.head


class Store(Protocol):
    """Where finished chunks are kept."""

    def load(self, want: Want, rows: range) -> Tensor | None:
        """Return a chunk that an earlier pass left, or None."""

    def save(self, want: Want, rows: range, feat_ND: Tensor) -> None:
        """Keep a chunk."""


class Nowhere:
    """A store that keeps nothing."""

    def load(self, want: Want, rows: range) -> Tensor | None:
        """Return None."""
        return None

    def save(self, want: Want, rows: range, feat_ND: Tensor) -> None:
        """Forget it."""


def extract(
    run: Run, samples: SampleSet, wants: Sequence[Want], store: Store | None = None
) -> dict[Want, Tensor]:
    """Return all that is wanted of every sample, float32 ND on the CPU; processes share the work out."""
    extractors = {want.head: run.extractor(want.head) for want in wants}
    size = _batch_rows(run, samples, extractors)
    chunks = _chunks(len(samples), size, run.accelerator.num_processes)
    work = _Pass(run, samples, extractors, size, store or Nowhere())
    found = work.see(wants, chunks[run.accelerator.process_index :: run.accelerator.num_processes])
    whole = _gathered(run, found)
    return {want: torch.cat([whole.pop((want, chunk.start)) for chunk in chunks]) for want in wants}


def _batch_rows(run: Run, samples: SampleSet, extractors: Mapping[str, Extractor]) -> int:
    """Return how many samples are seen at once: the run's batch, or as many as `INPUT_BYTES` hold."""
    inputs = _prepare(samples, extractors, range(1)).values()
    fit = max(1, INPUT_BYTES // max(1, sum(one.numel() * one.element_size() for one in inputs)))
    return min(run.settings.batch_size, 1 << (fit.bit_length() - 1))


def _chunks(count: int, size: int, processes: int) -> list[range]:
    """Cut the rows into chunks of whole batches, at least one for each process where there are as many."""
    batches = -(-count // size)
    rows = size * max(1, min(CHUNK_ROWS // size, batches // processes))
    return [range(start, min(start + rows, count)) for start in range(0, count, rows)]


def _prepare(
    samples: SampleSet, extractors: Mapping[str, Extractor], rows: Sequence[int]
) -> dict[str, Tensor]:
    """Read samples once and preprocess them for every extractor."""
    read = read_each(samples, rows)
    return {head: _stacked(head, samples, extractor, read) for head, extractor in extractors.items()}


def _stacked(head: str, samples: SampleSet, extractor: Extractor, read: Sequence[Tensor]) -> Tensor:
    inputs = [extractor.preprocess(sample) for sample in read]
    if len({one.shape for one in inputs}) > 1:
        raise DataError(f"{head} needs samples of one size; {samples.name} has several")
    return torch.stack(inputs)


@dataclass
class _Batch:
    """Samples on their way: prepared by a thread, or here where that did not fit in memory."""

    samples: SampleSet
    extractors: Mapping[str, Extractor]
    rows: range
    ready: Future[dict[str, Tensor]]

    def inputs(self, head: str, start: int, stop: int) -> Tensor:
        """Return preprocessed samples; a failure of the thread is raised if the whole is asked for."""
        if stop - start == len(self.rows) or self.ready.exception() is None:
            return self.ready.result()[head][start:stop]
        return _prepare(self.samples, {head: self.extractors[head]}, self.rows[start:stop])[head]


@dataclass
class _Pass:
    """What one process does of a pass."""

    run: Run
    samples: SampleSet
    extractors: Mapping[str, Extractor]
    size: int
    store: Store
    widths: dict[str, list[int]] = field(default_factory=dict)

    def see(self, wants: Sequence[Want], chunks: Sequence[range]) -> dict[tuple[Want, int], Tensor]:
        """Return the features of chunks by want and first row; stored ones are taken as they are."""
        found, missing = {}, defaultdict(list)
        for chunk in chunks:
            for want in wants:
                stored = self.store.load(want, chunk)
                if stored is None:
                    missing[chunk].append(want)
                else:
                    found[want, chunk.start] = stored
        label = f"{', '.join(self.extractors)} of {self.samples.name}"
        fitting = {
            head: Fitting(self.run, f"{head} of {self.samples.name}", self.size) for head in self.extractors
        }
        done = len(chunks) - len(missing)
        progress = self.run.log.progress(label, len(chunks), "chunk", done)
        with quiet(), progress as advance, torch.inference_mode():
            for chunk, seen in self._seen(missing, fitting):
                for want, feat_ND in seen.items():
                    _check_features(want, self.samples, chunk, feat_ND)
                    self.store.save(want, chunk, feat_ND)
                    found[want, chunk.start] = feat_ND
                advance()
        for one in fitting.values():
            one.settle()
        return found

    def _seen(
        self, missing: Mapping[range, list[Want]], fitting: Mapping[str, Fitting]
    ) -> Iterator[tuple[range, dict[Want, Tensor]]]:
        """Yield finished chunks."""
        parts: dict[Want, list[Tensor]] = defaultdict(list)
        for chunk, batch in self._batches(missing):
            for head in batch.extractors:
                outputs = [want.output for want in missing[chunk] if want.head == head]
                joined_ND = fitting[head].rows(len(batch.rows), partial(self._features, batch, head, outputs))
                for output, feat_ND in zip(outputs, joined_ND.split(self.widths[head], dim=1), strict=True):
                    parts[Want(head, output)].append(feat_ND)
            if batch.rows.stop == chunk.stop:
                yield chunk, {want: torch.cat(pieces) for want, pieces in parts.items()}
                parts.clear()

    def _features(self, batch: _Batch, head: str, outputs: Sequence[str], start: int, stop: int) -> Tensor:
        """Return outputs of an extractor beside each other, on the CPU."""
        found = self.extractors[head](batch.inputs(head, start, stop).to(self.run.device))
        for output in outputs:
            if output and output not in found:
                raise unknown(f"output of extractor {head!r}", output, found)
        chosen = [found[output] if output else next(iter(found.values())) for output in outputs]
        self.widths[head] = [feat_ND.shape[1] for feat_ND in chosen]
        return torch.cat([feat_ND.to("cpu", torch.float32) for feat_ND in chosen], dim=1)

    def _batches(self, missing: Mapping[range, list[Want]]) -> Iterator[tuple[range, _Batch]]:
        """Yield the batches of chunks in order, while threads prepare the next ones."""
        todo = [
            (
                chunk,
                chunk[start : start + self.size],
                {want.head: self.extractors[want.head] for want in wants},
            )
            for chunk, wants in missing.items()
            for start in range(0, len(chunk), self.size)
        ]
        waiting: list[tuple[range, _Batch]] = []
        with ThreadPoolExecutor(AHEAD, "genplug-read") as pool:
            try:
                for chunk, rows, extractors in todo:
                    ready = pool.submit(_prepare, self.samples, extractors, rows)
                    waiting.append((chunk, _Batch(self.samples, extractors, rows, ready)))
                    if len(waiting) > AHEAD:
                        yield waiting.pop(0)
                while waiting:
                    yield waiting.pop(0)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _check_features(want: Want, samples: SampleSet, chunk: range, feat_ND: Tensor) -> None:
    """Refuse features that are empty or not finite, naming the samples."""
    if feat_ND.ndim != 2 or feat_ND.shape[1] == 0:
        raise DataError(f"{want} gives empty features for {samples.name}")
    bad = (~feat_ND.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        names = ", ".join(row_name(samples, chunk[row]) for row in bad[:_SHOWN])
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DataError(
            f"{want} gives features that are not finite for {names}{more} of {samples.name}; "
            "look at these samples, and at the extractor's weights"
        )


def _gathered(run: Run, found: dict[tuple[Want, int], Tensor]) -> dict[tuple[Want, int], Tensor]:
    """Return what all processes found."""
    if run.accelerator.num_processes == 1:
        return found
    from accelerate.utils import gather_object

    return dict(gather_object(list(found.items())))
