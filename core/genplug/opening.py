"""`open_samples`: the sample set behind anything that a user can name on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genplug.errors import DataError, nearest
from genplug.imagefiles import ImageFiles
from genplug.paths import split_reference
from genplug.readers import holds_samples, open_path
from genplug.runtime import Run
from genplug.samplesets import ArraySet, Joined, SampleSet
from genplug.sampling import open_samples as open_shards
from genplug.statistics import Statistics, read_statistics

Openable = str | Path | Tensor | np.ndarray[Any, Any] | SampleSet


def open_samples(run: Run, reference: Openable) -> SampleSet:
    """Open a sample set.

    `reference` is a path (folder, `.zip`, `.npz`, `.npy`), a data set with its split
    (`digits:train`), samples of a run (`runs/x:improved`), a tensor or array, or a sample set.
    With `run.skip_bad`, images that cannot be read are left out and counted in a warning; what
    reading changes (CMYK, grey among colour, turned by EXIF) is said too.
    """
    if isinstance(reference, np.ndarray):
        reference = torch.from_numpy(np.ascontiguousarray(reference))
    if isinstance(reference, Tensor):
        return ArraySet(reference)
    if isinstance(reference, SampleSet):
        return reference
    if not isinstance(reference, str | Path):
        kinds = "a path, a data set with its split, a run, a tensor, an array or a sample set"
        raise DataError(f"samples must be {kinds}, not {type(reference).__name__}")
    text = str(reference)
    directory, role = split_reference(text)
    if directory is not None:
        return run_samples(directory, role)
    if os.path.exists(text):
        return _open_path(run, Path(text))
    name, _, split = text.partition(":")
    if name in run.catalog.entries["dataset"]:
        chosen: SampleSet = run.component("dataset", name).split(split or "train")
        return chosen
    known = run.catalog.names("dataset")
    raise DataError(
        f"no sample set {text!r}: neither a path nor a data set{nearest(name, known)} "
        f"(data sets: {', '.join(known)})"
    )


def open_real(run: Run, reference: Openable) -> tuple[SampleSet | None, Statistics | None]:
    """Open what generated samples are compared with: samples, statistics of their features, or both.

    Both are in a reference batch of ADM: its statistics are of more images than it holds.
    """
    path = Path(reference) if isinstance(reference, str | Path) and os.path.isfile(reference) else None
    found = read_statistics(path) if path is not None else ()
    statistics = Statistics(str(path), found) if found else None
    if path is not None and statistics is not None and not holds_samples(path):
        return None, statistics
    return open_samples(run, reference), statistics


def _open_path(run: Run, path: Path) -> SampleSet:
    samples = open_path(path, run.settings.skip_bad, run.settings.mixed_sizes)
    if isinstance(samples, ImageFiles):
        if samples.skipped:
            run.log.warn(f"{samples.name}: left out {samples.skipped} images that cannot be read")
        for note in samples.notes:
            run.log.warn(f"{samples.name}: {note}")
    return samples


def run_samples(directory: Path, role: str) -> SampleSet:
    """Open all seed blocks of a run's base or improved samples."""
    blocks = sorted((directory / "samples" / role).glob("block-*"))
    finished = [block for block in blocks if block.suffix != ".partial"]
    if not finished:
        there = sorted(path.name for path in (directory / "samples").glob("*"))
        raise DataError(
            f"{directory} has no finished samples of {role!r} (there are: {', '.join(there) or 'none'})"
        )
    return Joined([open_shards(block, f"{directory}:{role}") for block in finished], f"{directory}:{role}")
