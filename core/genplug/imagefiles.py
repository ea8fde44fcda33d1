"""A folder or dataset zip of images as a sample set: checked when opened, decoded on demand."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from genplug import labels as label_sources
from genplug.archives import Archive
from genplug.errors import DataError
from genplug.images import Look, decode, look, quiet

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")
FILE_BYTES = 2**27
_READING = "images-2"  # part of the digest: files read in another way are other samples
_SHOWN = 5
_THREADS = min(8, 2 * (os.cpu_count() or 1))
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Store(Protocol):
    """Named files: a folder or an archive."""

    names: list[str]

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content; `DataError` says in a few words why it cannot be had."""


class Folder:
    """The files below a folder, linked folders too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = list(_below(path, "", ()))

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content."""
        try:
            found = os.stat(self.path / name)
            if not stat.S_ISREG(found.st_mode):
                raise DataError("not a file")
            if found.st_size > limit:
                raise DataError(f"{found.st_size:,} bytes, more than {limit:,}")
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            raise DataError("link to a file that is not there") from None
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise
            raise DataError((error.strerror or "cannot be read").lower()) from None


def _below(path: Path, start: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the names of files; a link to a folder that holds it is not followed."""
    try:
        here = os.stat(path)
        if (identity := (here.st_dev, here.st_ino)) in above:
            return
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_folder(entry):
                    yield from _below(path / entry.name, f"{start}{entry.name}/", (*above, identity))
                else:
                    yield start + entry.name
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle: told when it is read, if it is called an image
        return False


class ImageFiles:
    """Images of a folder or a dataset zip; labels from `dataset.json` or from subfolders.

    `skipped` counts the images left out, `notes` says what reading changes, a line each;
    `file_digests` are the sha256 of the files.
    """

    def __init__(self, path: Path, skip_bad: bool = False, mixed_sizes: bool = False) -> None:
        self.path, self.name, self._mixed = path, str(path), mixed_sizes
        self._store: Store = Archive(path) if path.is_file() else Folder(path)
        every = sorted(filter(_is_image, self._store.names))
        if not every:
            raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)})")
        listed = self._listed(len(every))
        self._check(every, sorted(listed.keys() - set(self._store.names)), skip_bad)
        self.labels = self._labels(listed, every)

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest of names, contents and labels."""
        labels = None if self.labels is None else self.labels.tolist()
        named = "".join(f"{n}:{d};" for n, d in zip(self.files, self.file_digests, strict=True))
        text = f"{_READING}{named}{labels}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """Return CHW; height and width are 0 where sizes differ."""
        return self._shape

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return decoded images, uint8 NCHW."""
        if self._shape[1] == 0:
            raise DataError(f"{self.path} mixes image sizes: its images cannot be put into one array")
        return torch.stack(self.read_each(rows))

    def read_each(self, rows: Sequence[int]) -> list[Tensor]:
        """Return decoded images one by one, uint8 CHW.

        What Pillow says is silenced in the main thread alone: filters of warnings are not per thread.
        """
        alone = threading.current_thread() is threading.main_thread()
        with quiet() if alone else nullcontext():
            return _threaded(self._decode, rows)

    def row_name(self, row: int) -> str:
        """Return the file of an image."""
        return _shown(self.files[row])

    def _decode(self, row: int) -> Tensor:
        """Return an image as it was when the set was opened."""
        name = self.files[row]
        try:
            image = decode(self._store.read(name, FILE_BYTES))
        except DataError as error:
            raise DataError(f"{self.path}: {_shown(name)} cannot be read: {error}") from None
        if image.shape[0] == 1 and self._shape[0] == 3:
            image = image.expand(3, -1, -1)
        if tuple(image.shape[1:]) != self._sizes[row]:
            raise DataError(f"{self.path}: {_shown(name)} changed while in use")
        return image

    def _look(self, name: str) -> tuple[Look, str] | str:
        """Return what an image holds and its digest, or why it is not used."""
        try:
            content = self._store.read(name, FILE_BYTES)
            return look(content), hashlib.sha256(content).hexdigest()
        except DataError as error:
            return str(error)

    def _check(self, names: Sequence[str], gone: Sequence[str], skip_bad: bool) -> None:
        """Look at every image before any work: name the bad ones or leave them out."""
        looks: dict[str, Look] = {}
        with quiet():
            seen = _threaded(self._look, names)
        bad = [f"{_shown(name)} ({label_sources.LABELS_FILE} lists it, but it is not there)" for name in gone]
        self.file_digests: list[str] = []
        for name, found in zip(names, seen, strict=True):
            if isinstance(found, str):
                bad.append(f"{_shown(name)} ({found})")
            else:
                looks[name] = found[0]
                self.file_digests.append(found[1])
        if bad and (not skip_bad or not looks):
            remedy = "repair them, or leave them out with --skip-bad" if looks else "nothing is left"
            raise DataError(
                f"{self.path}: {len(bad)} of {len(names) + len(gone)} images cannot be read: "
                f"{', '.join(bad[:_SHOWN])}{_more(len(bad) - _SHOWN)}; {remedy}"
            )
        self.skipped, self.files = len(bad), list(looks)
        self._sizes = [found.shape[1:] for found in looks.values()]
        self._shape = self._one_shape(looks)
        self.notes = _notes(looks, self._shape)

    def _one_shape(self, looks: dict[str, Look]) -> tuple[int, int, int]:
        """Return the shape of all images; sizes that differ are an error that names two files."""
        sizes: dict[tuple[int, int], str] = {}
        for name, found in looks.items():
            sizes.setdefault(found.shape[1:], name)
        channels = max(found.shape[0] for found in looks.values())
        if len(sizes) > 1 and self._mixed:
            return channels, 0, 0
        if len(sizes) > 1:
            (one, first), (two, second) = list(sizes.items())[:2]
            raise DataError(
                f"{self.path} mixes image sizes: {_shown(first)} is {_size(one)}, {_shown(second)} is "
                f"{_size(two)}{_more(len(sizes) - 2)}; bring all to one size with one filter, or let every "
                "extractor resize each image by itself (--mixed-sizes)"
            )
        height, width = next(iter(sizes))
        return channels, height, width

    def _listed(self, images: int) -> dict[str, int]:
        """Return the labels of `dataset.json`; its size is bounded by the number of images."""
        if label_sources.LABELS_FILE not in self._store.names:
            return {}
        try:
            return label_sources.listed(self._store.read(label_sources.LABELS_FILE, 2**20 + 1024 * images))
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None

    def _labels(self, listed: dict[str, int], every: Sequence[str]) -> Tensor | None:
        if not listed:
            has_file = label_sources.LABELS_FILE in self._store.names
            return None if has_file else label_sources.from_folders(self.files, every)
        if missing := [name for name in self.files if name not in listed]:
            raise DataError(f"{self.path}: dataset.json has no label for {_shown(missing[0])}")
        return torch.tensor([listed[name] for name in self.files])


def _is_image(name: str) -> bool:
    """Tell images by their suffix; hidden files and what a Mac adds to its zips are none."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return name.lower().endswith(SUFFIXES) and not hidden


def _notes(looks: dict[str, Look], shape: tuple[int, int, int]) -> list[str]:
    changes = Counter(change for found in looks.values() for change in found.changes)
    changes["grey read as RGB, as others are in colour"] += sum(
        found.shape[0] < shape[0] for found in looks.values()
    )
    sizes = Counter(found.shape[1:] for found in looks.values())
    if len(sizes) > 1:
        small, large = (_size(pick(sizes, key=lambda size: size[0] * size[1])) for pick in (min, max))
        changes[f"images of {len(sizes)} sizes, {small} to {large}, each resized by the extractors"] += len(
            looks
        )
    return [f"{change}: {count} of {len(looks)} images" for change, count in changes.items() if count]


def _threaded(function: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items))


def _shown(name: str) -> str:
    """Return a file's name as a terminal can show it."""
    return name if name.isprintable() else ascii(name)


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _more(count: int) -> str:
    return f" and {count:,} more" if count > 0 else ""
