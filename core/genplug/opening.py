"""`open_samples`: the sample set behind anything that a user can name on the command line."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from genplug.errors import DataError, nearest
from genplug.loading import split_reference
from genplug.readers import open_path
from genplug.runtime import Run
from genplug.samplesets import ArraySet, Joined, SampleSet
from genplug.sampling import open_samples as open_shards


def open_samples(run: Run, reference: str | Path | Tensor | SampleSet, skip_bad: bool = False) -> SampleSet:
    """Open a sample set.

    `reference` is a path (folder, `.zip`, `.npz`, `.npy`), a data set with its split
    (`digits:train`), samples of a run (`runs/x:improved`), a tensor, or a sample set.
    """
    if isinstance(reference, Tensor):
        return ArraySet(reference)
    if isinstance(reference, SampleSet):
        return reference
    text = str(reference)
    directory, role = split_reference(text)
    if directory is not None:
        return run_samples(directory, role)
    if Path(text).exists():
        return open_path(Path(text), skip_bad)
    name, _, split = text.partition(":")
    if name in run.catalog.entries["dataset"]:
        dataset = run.catalog.get("dataset", name).config_model()().build(run)
        chosen: SampleSet = dataset.split(split or "train")
        return chosen
    known = run.catalog.names("dataset")
    raise DataError(
        f"no sample set {text!r}: neither a path nor a data set{nearest(name, known)} (data sets: {', '.join(known)})"
    )


def run_samples(directory: Path, role: str) -> SampleSet:
    """Open all seed blocks of a run's base or improved samples."""
    blocks = sorted((directory / "samples" / role).glob("block-*"))
    finished = [block for block in blocks if block.suffix != ".partial"]
    if not finished:
        raise DataError(f"{directory} has no samples of {role!r}; it has samples of base and improved once it ran")
    return Joined([open_shards(block, f"{directory}:{role}") for block in finished], f"{directory}:{role}")
