"""Nearest neighbours that the scores of a run share: each pass over two sets of rows is made once.

    d_Nk, i_Nk = nearest_of(run, distance, queries_ND, corpus_MD, k)     # e.g. generated in training rows
    d_Nk, i_Nk = nearest_others(run, distance, feat_ND, k)               # each row's nearest *other* rows
    found = balls(run, distance, real_ND, fake_MD, ks)                   # who lies in whose k-neighbour balls

Distances are float64 and ascending, row numbers int64, on the CPU. Results are kept in the run under the
contents of the rows, the distance and k, so that precision and recall, density and coverage, authenticity,
C_T and the Image Retrieval Score pay for a pass once; a result for k serves every smaller k. With several
processes each searches for its share of the queries and all get the whole result, so call these functions on
every process alike. `run` may be None: then nothing is kept and one process does it all.

Any `Distance` will do. The balls of one whose rows map into a Euclidean space (`Embedded`) are decided by
fast certified passes; of another by blocks of its `pairwise`. A distance may name such a one as its `exact`
when its own index is approximate: balls are exact, `nearest_of` does as the index does.

Legend: N real rows or queries, M generated or corpus rows, D feature width, K values of k.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from genplug.protocols import Distance
from genplug.runtime import Run
from genplug_distances.balls import Counts, Membership, membership
from genplug_distances.points import Points, slices
from genplug_distances.search import nearest, nearest_self

T = TypeVar("T")
ROWS = 1024  # rows of a `pairwise` block
KEPT_BYTES = 2**28  # results that a run keeps, the latest ones


@runtime_checkable
class Embedded(Protocol):
    """A distance that is a monotone function of the Euclidean one between mapped rows."""

    @property
    def block_bytes(self) -> int:
        """Working memory."""

    @property
    def precision(self) -> str:
        """`auto`, or `float32` to forbid bfloat16 candidates."""

    def points(self, x_ND: Tensor) -> Points:
        """Map rows into a Euclidean space."""

    def from_squared(self, e: Tensor) -> Tensor:
        """Turn squared Euclidean distances there into this distance."""


def nearest_of(
    run: Run | None, distance: Distance, queries_ND: Tensor, corpus_MD: Tensor, k: int = 1
) -> tuple[Tensor, Tensor]:
    """Return d_Nk and i_Nk of the k nearest corpus rows of each query."""

    def search() -> tuple[Tensor, Tensor]:
        index = _index(run, distance, corpus_MD)
        return _rows_of(run, len(queries_ND), lambda rows: index.search(queries_ND[rows], k))

    return _up_to_k(run, "nearest", distance, (queries_ND, corpus_MD), k, search)


def nearest_others(run: Run | None, distance: Distance, feat_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return d_Nk and i_Nk of the k nearest *other* rows of each row of a set."""
    exact = _exact(distance)
    raw_Nk, i_Nk = _others(run, exact, feat_ND, k)
    return exact.from_squared(raw_Nk) if isinstance(exact, Embedded) else raw_Nk, i_Nk


def balls(
    run: Run | None, distance: Distance, real_ND: Tensor, fake_MD: Tensor, ks: Sequence[int]
) -> Membership:
    """Return who lies in whose balls of radius k-th nearest other row: x real, y generated; K as in `ks`."""
    exact, columns = _exact(distance), [k - 1 for k in ks]
    r_NK, s_MK = (_others(run, exact, feat, max(ks))[0][:, columns] for feat in (real_ND, fake_MD))

    def count(rows: slice) -> Membership:
        x_ND, r_IK = real_ND[rows], r_NK[rows]
        if not isinstance(exact, Embedded):
            return _pairwise_balls(exact, x_ND, r_IK, fake_MD, s_MK)
        x, y = (exact.points(_placed(run, feat)) for feat in (x_ND, fake_MD))
        r_IK, s_JK = r_IK.to(x.device), s_MK.to(x.device)
        return membership(x, r_IK, y, s_JK, exact.block_bytes, exact.precision)

    def counted() -> Membership:
        return _joined(_shares(run, len(real_ND), count))

    return _kept(run, (f"balls {list(ks)}", _name(exact), real_ND, fake_MD), counted)


# --- how the passes are made ----------------------------------------------------------------------------


def _exact(distance: Distance) -> Distance:
    """Return the distance whose index is exact."""
    return getattr(distance, "exact", distance)


def _placed(run: Run | None, x_ND: Tensor) -> Tensor:
    """Move rows to the run's device if it is an accelerator with room for them."""
    if run is None or run.device.type != "cuda":
        return x_ND
    try:
        return x_ND.to(run.device)
    except torch.OutOfMemoryError:
        return x_ND


def _others(run: Run | None, exact: Distance, feat_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return distances (squared Euclidean ones where the distance is embedded) and i_Nk of other rows."""
    if not 1 <= k < len(feat_ND):
        raise ValueError(f"k={k} neighbours asked of {len(feat_ND) - 1} other rows: choose 1 <= k < rows")

    def search() -> tuple[Tensor, Tensor]:
        if not isinstance(exact, Embedded):
            index = _index(run, exact, feat_ND)

            def found(rows: slice) -> tuple[Tensor, Tensor]:
                d_Nk1, i_Nk1 = index.search(feat_ND[rows], k + 1)
                return _without_own(d_Nk1, i_Nk1, rows.start)

            return _rows_of(run, len(feat_ND), found)
        points = exact.points(_placed(run, feat_ND))
        options = exact.block_bytes, exact.precision

        def of(rows: slice) -> tuple[Tensor, Tensor]:
            if rows.stop - rows.start == len(points):
                return nearest_self(points, k, *options)
            return nearest(points.take(rows), points, k, rows.start, *options)

        return _rows_of(run, len(points), of)

    return _up_to_k(run, "others", exact, (feat_ND,), k, search)


def _without_own(d_Nk1: Tensor, i_Nk1: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Leave out the row itself, or the last neighbour where the row was not found among its equals."""
    own = i_Nk1 == torch.arange(first, first + len(i_Nk1), device=i_Nk1.device)[:, None]
    own[:, -1] |= ~own.any(1)
    shape = len(i_Nk1), i_Nk1.shape[1] - 1
    return d_Nk1[~own].view(shape), i_Nk1[~own].view(shape)


def _pairwise_balls(distance: Distance, x_ND: Tensor, r_NK: Tensor, y_MD: Tensor, s_MK: Tensor) -> Membership:
    """Count by comparing all distances."""
    parts = []
    for rows in slices(len(x_ND), ROWS):
        d_IM1 = distance.pairwise(x_ND[rows], y_MD).cpu()[:, :, None]
        r_I1K, s_1MK = r_NK[rows, None], s_MK[None]
        masks = d_IM1 < r_I1K, d_IM1 <= r_I1K, d_IM1 < s_1MK, d_IM1 <= s_1MK
        by_x, by_y = ([mask.sum(dim) for mask in masks] for dim in (1, 0))
        parts.append(
            Membership(
                Counts(by_x[0], by_y[0]),
                Counts(by_x[1], by_y[1]),
                Counts(by_y[2], by_x[2]),
                Counts(by_y[3], by_x[3]),
            )
        )
    return _joined(parts)


def _joined(parts: Sequence[Membership]) -> Membership:
    """Put the results of consecutive rows x together."""

    def joined(name: str, x_first: bool) -> Counts:
        of_balls, of_points = (
            [getattr(getattr(part, name), field).cpu() for part in parts]
            for field in ("of_balls", "of_points")
        )
        if x_first:
            return Counts(torch.cat(of_balls), torch.stack(of_points).sum(0))
        return Counts(torch.stack(of_balls).sum(0), torch.cat(of_points))

    return Membership(
        joined("x_open", True), joined("x_closed", True), joined("y_open", False), joined("y_closed", False)
    )


# --- processes ------------------------------------------------------------------------------------------


def _shares(run: Run | None, n: int, work: Callable[[slice], T]) -> list[T]:
    """Let each process work on its share of n rows; return the results of all, in order."""
    processes, process = (run.accelerator.num_processes, run.accelerator.process_index) if run else (1, 0)
    first, last = n * process // processes, n * (process + 1) // processes
    own = [work(slice(first, last))] if last > first else []
    if processes == 1:
        return own
    from accelerate.utils import gather_object

    results: list[T] = gather_object(own)
    return results


def _rows_of(
    run: Run | None, n: int, search: Callable[[slice], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    def on_cpu(rows: slice) -> tuple[Tensor, Tensor]:
        d_Nk, i_Nk = search(rows)
        return d_Nk.cpu(), i_Nk.cpu()

    d, i = zip(*_shares(run, n, on_cpu), strict=True)
    return torch.cat(d), torch.cat(i)


# --- what a run keeps -----------------------------------------------------------------------------------


@dataclass
class _Kept:
    """The latest results, and the one index that was used last (to build one may take minutes)."""

    results: dict[str, Any] = field(default_factory=dict)
    index: tuple[str, Any] = ("", None)

    def add(self, key: str, value: Any) -> None:
        self.results[key] = value
        while len(self.results) > 1 and sum(map(_bytes, self.results.values())) > KEPT_BYTES:
            del self.results[next(iter(self.results))]


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    parts = vars(value).values() if is_dataclass(value) else value
    return sum(map(_bytes, parts))


def _kept(run: Run | None, about: tuple[str | Tensor, ...], make: Callable[[], T]) -> T:
    """Return a result that depends on names and rows, from the run if it has it."""
    if run is None:
        return make()
    kept: _Kept = run.once("neighbours", lambda _: _Kept())
    key = _key(about)
    if key not in kept.results:
        kept.add(key, make())
    result: T = kept.results[key]
    return result


def _up_to_k(
    run: Run | None,
    what: str,
    distance: Distance,
    rows: tuple[Tensor, ...],
    k: int,
    search: Callable[[], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Return the first k columns of a kept result, or search and keep."""
    if run is None:
        return search()
    kept: _Kept = run.once("neighbours", lambda _: _Kept())
    key = _key((what, _name(distance), *rows))
    if key not in kept.results or kept.results[key][1].shape[1] < k:
        kept.add(key, search())
    d_Nk, i_Nk = kept.results[key]
    return d_Nk[:, :k], i_Nk[:, :k]


def _index(run: Run | None, distance: Distance, corpus_MD: Tensor) -> Any:
    if run is None:
        return distance.index(corpus_MD)
    corpus_MD = _placed(run, corpus_MD) if isinstance(distance, Embedded) else corpus_MD
    kept: _Kept = run.once("neighbours", lambda _: _Kept())
    key = _key((_name(distance), corpus_MD))
    if kept.index[0] != key:
        kept.index = ("", None)  # before the next one is built: two may not fit
        kept.index = (key, distance.index(corpus_MD))
    return kept.index[1]


def _name(distance: Distance) -> str:
    """Return what tells distances apart: class and options, or the object itself."""
    plain = is_dataclass(distance) and type(distance).__repr__ is not object.__repr__
    return f"{type(distance).__module__}.{distance!r}" if plain else f"{distance!r} {id(distance)}"


def _key(about: tuple[str | Tensor, ...]) -> str:
    digest = hashlib.sha256()
    for part in about:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        else:
            digest.update(f"{part} ".encode())
    return digest.hexdigest()
