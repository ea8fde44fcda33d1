"""Writing samples: folders of PNGs, dataset zips, `.npz` in ADM's layout; each whole or not at all."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from genplug.errors import DataError
from genplug.paths import check_target
from genplug.samplesets import ArraySet, SampleSet, batches

MANIFEST = "manifest.json"
LABELS = "dataset.json"


def save_npz(path: Path, samples: Tensor, labels_N: Tensor | None, **extra: Tensor) -> None:
    """Write `arr_0` (images NHWC or points ND), `arr_1` (labels) and extra arrays by name."""
    _write_npz(path, ArraySet(samples.cpu(), labels_N), extra)


def png(sample: Tensor) -> bytes:
    """Return a uint8 image CHW as PNG."""
    array = sample.permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG")
    return buffer.getvalue()


def export(
    samples: SampleSet, path: Path, seeds_N: Tensor | None = None, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a sample set to a `.npz`, a dataset `.zip`, or a folder of PNGs.

    Seeds go into the `.npz`, or with `facts` into the manifest of a zip or folder.
    """
    check_target(path, "image" if len(samples.shape) == 3 else "points")
    if seeds_N is not None and len(seeds_N) != len(samples):
        raise DataError(f"{samples.name}: {len(samples)} samples but {len(seeds_N)} seeds")
    if path.suffix == ".npz":
        _write_npz(path, samples, {} if seeds_N is None else {"seeds": seeds_N})
    else:
        described = (
            {} if seeds_N is None and facts is None else {MANIFEST: _manifest(samples, seeds_N, facts or {})}
        )
        (_write_zip if path.suffix == ".zip" else _write_folder)(path, samples, described)


def _manifest(samples: SampleSet, seeds_N: Tensor | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return index (the number in the file's name), seed and label of every sample."""
    empty = [None] * len(samples)
    labels = empty if samples.labels is None else samples.labels.tolist()
    seeds = empty if seeds_N is None else seeds_N.tolist()
    rows = [
        {"index": index, "seed": seed, "label": label}
        for index, (seed, label) in enumerate(zip(seeds, labels, strict=True))
    ]
    return {**facts, "samples": rows}


def _write_npz(path: Path, samples: SampleSet, extra: Mapping[str, Tensor]) -> None:
    """Write an archive batch by batch, so that memory is bounded by the batch."""
    arrays = {**({} if samples.labels is None else {"arr_1": samples.labels}), **extra}
    with _whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        _add_array(archive, "arr_0", len(samples), map(_channels_last, batches(samples)))
        for name, value in arrays.items():
            _add_array(archive, name, len(value), [value.cpu().numpy()])


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a hidden place to write to, then put it in place; what fails leaves nothing behind."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
        raise


def _channels_last(samples: Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray((samples.permute(0, 2, 3, 1) if samples.ndim == 4 else samples).cpu().numpy())


def _add_array(
    archive: zipfile.ZipFile, name: str, count: int, pieces: Iterable[np.ndarray[Any, Any]]
) -> None:
    """Add an array of `count` rows, given in pieces, as numpy's `savez` would."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        for number, piece in enumerate(pieces):
            if number == 0:
                descr = np.lib.format.dtype_to_descr(piece.dtype)
                header = {"descr": descr, "fortran_order": False, "shape": (count, *piece.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(piece.tobytes())


def _write_zip(path: Path, samples: SampleSet, described: Mapping[str, Any]) -> None:
    with _whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        _write_images(
            samples, lambda index, _: f"{index // 1000:05d}/img{index:08d}.png", archive.writestr, described
        )


def _write_folder(path: Path, samples: SampleSet, described: Mapping[str, Any]) -> None:
    def place(index: int, label: int | None) -> str:
        return f"{index:06d}.png" if label is None else f"{label:04d}/{index:06d}.png"

    with _whole(path) as partial:
        partial.mkdir(parents=True)

        def put(name: str, content: bytes) -> None:
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(content)

        _write_images(samples, place, put, described)


def _write_images(
    samples: SampleSet,
    place: Callable[[int, int | None], str],
    put: Callable[[str, bytes], None],
    described: Mapping[str, Any],
) -> None:
    """Put every image where it belongs, then its label in NVlabs' layout and what else is to be told."""
    labels = []
    for index, content in _pngs(samples):
        label = None if samples.labels is None else int(samples.labels[index])
        name = place(index, label)
        put(name, content)
        labels.append([name, label])
    for name, value in {LABELS: {"labels": None if samples.labels is None else labels}, **described}.items():
        put(name, json.dumps(value).encode())


def _pngs(samples: SampleSet) -> Iterator[tuple[int, bytes]]:
    index = 0
    for batch in batches(samples):
        for sample in batch:
            yield index, png(sample)
            index += 1
