"""Opening what users name as a sample set: folders, zips, `.npz`, `.npy`, data sets, runs."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from genplug.errors import DataError
from genplug.registry import one_line
from genplug.samplesets import ArraySet, SampleSet

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")
_SHOWN = 5


class ImageFiles:
    """Images of a folder or a dataset zip, decoded on demand; labels from subfolders or `dataset.json`."""

    def __init__(self, path: Path, skip_bad: bool = False) -> None:
        self.path, self.name = path, str(path)
        self._zip = zipfile.ZipFile(path) if path.is_file() else None
        names = (
            self._zip.namelist() if self._zip else [p.relative_to(path).as_posix() for p in path.rglob("*")]
        )
        self.files = sorted(name for name in names if name.lower().endswith(SUFFIXES))
        if not self.files:
            raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)})")
        self._check(skip_bad)
        self.labels = self._labels()

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest of names, contents and labels."""
        labels = None if self.labels is None else self.labels.tolist()
        return hashlib.sha256(f"{''.join(self._digests)}{labels}".encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """Return CHW."""
        return self._shape

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return decoded images, uint8 NCHW."""
        with ThreadPoolExecutor(4) as pool:
            return torch.stack(list(pool.map(lambda i: decode_image(self._bytes(self.files[i])), rows)))

    def _bytes(self, name: str) -> bytes:
        return self._zip.read(name) if self._zip else (self.path / name).read_bytes()

    def _check(self, skip_bad: bool) -> None:
        """Decode every image once, before any work: name the bad ones or leave them out."""
        with ThreadPoolExecutor(4) as pool:
            looks = list(pool.map(self._look, self.files))
        good = [
            (name, look) for name, look in zip(self.files, looks, strict=True) if not isinstance(look, str)
        ]
        bad = [
            f"{name} ({look})" for name, look in zip(self.files, looks, strict=True) if isinstance(look, str)
        ]
        if bad and (not skip_bad or not good):
            more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
            raise DataError(
                f"{self.path}: {len(bad)} of {len(self.files)} images cannot be read: "
                f"{', '.join(bad[:_SHOWN])}{more}; repair them or leave them out with "
                "--skip-bad (in a run: --set run.skip_bad=true)"
            )
        shapes = sorted({look[0] for _, look in good})
        if len(shapes) > 1:
            raise DataError(
                f"{self.path} mixes image shapes {', '.join(map(str, shapes[:_SHOWN]))}; resize them alike"
            )
        self.skipped, self._shape = len(bad), shapes[0]
        self.files = [name for name, _ in good]
        self._digests = [f"{name}:{look[1]};" for name, look in good]

    def _look(self, name: str) -> tuple[tuple[int, ...], str] | str:
        """Return one image's shape and digest, or what is wrong with it."""
        try:
            content = self._bytes(name)
            if not content:
                return "empty file"
            return tuple(decode_image(content).shape), hashlib.sha256(content).hexdigest()
        except UnidentifiedImageError:
            return "not an image"
        except Exception as error:  # decoders raise anything on damaged files
            return one_line(error)[:80]

    def _labels(self) -> Tensor | None:
        """Return labels from `dataset.json` (NVlabs' layout) or from the first folder level."""
        names = self._zip.namelist() if self._zip else []
        if "dataset.json" in names or (self.path / "dataset.json").is_file():
            return self._listed_labels()
        folders = [Path(name).parts[0] if len(Path(name).parts) > 1 else None for name in self.files]
        if None in folders or len(set(folders)) < 2:
            return None
        classes = sorted(set(map(str, folders)))
        return torch.tensor([classes.index(str(folder)) for folder in folders])

    def _listed_labels(self) -> Tensor | None:
        try:
            labels = json.loads(self._bytes("dataset.json")).get("labels")
            table = {name: int(label) for name, label in labels or ()}
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{self.path}: dataset.json is not in NVlabs' layout ({one_line(error)})"
            ) from None
        if missing := [name for name in self.files if table and name not in table]:
            raise DataError(f"{self.path}: dataset.json has no label for {missing[0]}")
        return torch.tensor([table[name] for name in self.files]) if table else None


def decode_image(content: bytes) -> Tensor:
    """Return an image file as uint8 CHW: grey stays one channel, anything else becomes RGB."""
    with Image.open(io.BytesIO(content)) as image:
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            raise DataError(f"mode {image.mode}: more than 8 bits per channel")
        image.load()
        array = np.array(image if image.mode == "L" else image.convert("RGB"))
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1).contiguous()


def read_npy(path: Path) -> SampleSet:
    """Open an array file, memory-mapped: images NHWC or NCHW, or points ND."""
    try:
        return ArraySet(
            _channels_first(np.load(path, mmap_mode="c", allow_pickle=False), path), name=str(path)
        )
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable array file ({str(error)[:80]})") from None


def read_npz(path: Path) -> SampleSet:
    """Open an archive in ADM's layout: `arr_0` images NHWC (or points), `arr_1` labels if any."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            key = "arr_0" if "arr_0" in names else names[0] if names else ""
            array = _map_member(path, f"{key}.npy")
            array = archive[key] if array is None else array
            labels = torch.from_numpy(archive["arr_1"]).long() if "arr_1" in names else None
        return ArraySet(_channels_first(array, path), labels, name=str(path))
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable npz archive ({str(error)[:80]})") from None


def _map_member(path: Path, member: str) -> Any:
    """Memory-map an uncompressed member of an npz, so that large archives are not read whole."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            return None
    with path.open("rb") as file:
        file.seek(info.header_offset)
        local = file.read(30)
        file.seek(
            info.header_offset
            + 30
            + int.from_bytes(local[26:28], "little")
            + int.from_bytes(local[28:30], "little")
        )
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read_header(file)
        if (
            fortran
            or dtype.hasobject
            or file.tell() + dtype.itemsize * int(np.prod(shape)) > path.stat().st_size
        ):
            return None
        return np.memmap(path, dtype=dtype, mode="c", offset=file.tell(), shape=shape)


def _channels_first(array: Any, path: Path) -> Tensor:
    """Return images as uint8 NCHW and points as float32 ND."""
    if array.ndim == 2:
        return torch.from_numpy(np.asarray(array, dtype=np.float32))
    if array.ndim == 4 and array.dtype == np.uint8:
        return torch.from_numpy(array.transpose(0, 3, 1, 2) if array.shape[3] in (1, 3) else array)
    raise DataError(f"{path}: {array.dtype} array of shape {array.shape} is neither uint8 images nor points")


def open_path(path: Path, skip_bad: bool = False) -> SampleSet:
    """Open a file or folder as a sample set."""
    if not path.exists():
        raise DataError(f"no such file or folder: {path}")
    if path.suffix == ".npy":
        return read_npy(path)
    if path.suffix == ".npz":
        return read_npz(path)
    if path.is_dir() or path.suffix == ".zip":
        try:
            return ImageFiles(path, skip_bad)
        except zipfile.BadZipFile as error:
            raise DataError(f"{path} is not a readable zip ({error})") from None
    raise DataError(f"{path} is no sample set: expected a folder of images, .zip, .npz or .npy")
