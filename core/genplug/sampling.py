"""Sampling to disk: one file per batch, shared out over processes, resumable at each file.

The partition of seeds into batches is fixed by the configuration, not by the number of
processes, so that a resumed or a distributed run makes exactly the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genplug.arrays import read_npz
from genplug.errors import DataError, GenplugError, NonFiniteError
from genplug.memory import Fitting
from genplug.protocols import Generator, Policy
from genplug.samplesets import Joined, SampleSet, check_finite
from genplug.writers import save_npz

if TYPE_CHECKING:
    from genplug.runtime import Run


def sample_stage(
    run: Run, name: str, generator: Generator, seeds_N: Tensor, key: Mapping[str, Any], label: str
) -> SampleSet:
    """Return samples of a generator for seeds, made once and kept in the stage `name`."""
    size, policy = run.settings.batch_size, run.settings.classes
    whole_key = {"seeds": [int(seeds_N[0]), len(seeds_N)], "batch": size, "policy": policy, **key}

    def work(partial: Path) -> None:
        draw(run, generator, seeds_N, size, policy, partial, label)

    return open_samples(run.stage(name, whole_key, work), label)


def draw(
    run: Run, generator: Generator, seeds_N: Tensor, size: int, policy: Policy, directory: Path, label: str
) -> None:
    """Write samples, one `.npz` per batch, skipping the batches that are there."""
    if generator.size is not None and len(seeds_N) > generator.size:
        raise DataError(
            f"{len(seeds_N)} samples asked of a generator that has {generator.size}; lower run.samples"
        )

    def write(path: Path, batch_seeds_N: Tensor, fitting: Fitting) -> None:
        cond = generator.conditions(batch_seeds_N, policy)

        def part(start: int, stop: int) -> Tensor:
            rows = slice(start, stop)
            taken = cond.take(rows) if cond is not None else None
            return sample_checked(generator, batch_seeds_N[rows], taken, label).cpu()

        samples = fitting.rows(len(batch_seeds_N), part)
        save_npz(path, samples, cond.labels_N if cond is not None else None, seeds=batch_seeds_N)

    problem: NonFiniteError | None = None
    try:
        each_batch(run, seeds_N, size, directory, ".npz", f"sampling {label}", write, coupled(generator))
    except NonFiniteError as error:
        problem = error
    if not run.all(problem is None):  # who catches it must catch it on every process
        raise problem or NonFiniteError(f"{label} made a sample that is not finite on another process")


def each_batch(
    run: Run,
    seeds_N: Tensor,
    size: int,
    directory: Path,
    suffix: str,
    label: str,
    write: Callable[[Path, Tensor, Fitting], None],
    whole: str = "",
) -> None:
    """Call `write(file, seeds, fitting)` for every batch of this process whose file is not there yet.

    `write` must make the file whole or not at all, and its rows with `fitting.rows`, which halves
    what does not fit in memory; `whole` says why a batch must not be split.
    """
    batches = seeds_N.split(size)
    mine = range(run.accelerator.process_index, len(batches), run.accelerator.num_processes)
    paths = {number: directory / f"batch-{number:06d}{suffix}" for number in mine}
    missing = [number for number in mine if not paths[number].is_file()]
    done = sum(len(batches[number]) for number in mine if number not in missing)
    total = done + sum(len(batches[number]) for number in missing)
    fitting = Fitting(run, label, size, whole)
    with run.log.progress(label, total, "sample", done) as advance:
        for number in missing:
            write(paths[number], batches[number], fitting)
            advance(len(batches[number]))
    fitting.settle()


def coupled(generator: Any) -> str:
    """Return why a generator's batches must not be split; nothing if they may be."""
    return "its samples depend on their batch" if "batch-coupled" in generator.provides else ""


def sample_checked(generator: Generator, seeds_N: Tensor, cond: Any, label: str) -> Tensor:
    """Sample one batch; samples that are not finite name their seed."""
    try:
        with torch.inference_mode():
            samples = generator.sample(seeds_N, cond)
        if len(samples) != len(seeds_N):
            raise GenplugError(f"{label} returned {len(samples)} samples for {len(seeds_N)} seeds")
        check_finite(samples, seeds_N)
    except NonFiniteError as error:
        raise NonFiniteError(f"{label}: {error}") from None
    return samples


def open_samples(directory: Path, name: str) -> SampleSet:
    """Open sampled batches as one set."""
    shards: Sequence[Path] = sorted(directory.glob("batch-*.npz"))
    if not shards:
        raise DataError(f"{directory} holds no samples")
    parts = [read_npz(path) for path in shards]
    return Joined(parts, name)
