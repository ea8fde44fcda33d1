"""Opening what users name as a sample set: folders, zips, `.npz`, `.npy`."""

from __future__ import annotations

import os
from pathlib import Path

from genplug.arrays import array_names, read_npy, read_npz
from genplug.errors import DataError
from genplug.imagefiles import ImageFiles
from genplug.samplesets import SampleSet


def open_path(path: Path, skip_bad: bool = False, mixed_sizes: bool = False) -> SampleSet:
    """Open a file or folder as a sample set.

    `skip_bad` leaves out images that cannot be read, `mixed_sizes` allows images of different sizes.
    """
    if not os.path.exists(path):
        raise DataError(f"no such file or folder: {path}")
    if path.is_dir():
        return ImageFiles(path, skip_bad, mixed_sizes)
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder")
    if path.suffix == ".npy":
        return read_npy(path)
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix == ".zip":
        return ImageFiles(path, skip_bad, mixed_sizes)
    raise DataError(f"{path} is no sample set: expected a folder of images, .zip, .npz or .npy")


def holds_samples(path: Path) -> bool:
    """Return whether a file with statistics holds samples too."""
    return path.suffix == ".npz" and "arr_0" in array_names(path)
