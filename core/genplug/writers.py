"""Writing samples: folders of PNGs, dataset zips, `.npz` in ADM's layout; each whole or not at all."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from genplug.errors import DataError
from genplug.samplesets import SampleSet, batches


def save_npz(path: Path, samples: Tensor, labels_N: Tensor | None, **extra: Tensor) -> None:
    """Write `arr_0` (images NHWC or points ND), `arr_1` (labels) and extra arrays."""
    arrays = {"arr_0": (samples.permute(0, 2, 3, 1) if samples.ndim == 4 else samples).cpu().contiguous().numpy()}
    if labels_N is not None:
        arrays["arr_1"] = labels_N.cpu().numpy()
    arrays.update({name: value.cpu().numpy() for name, value in extra.items()})
    partial = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(partial, **arrays)
    os.replace(partial, path)


def png(sample: Tensor) -> bytes:
    """Return a uint8 image CHW as PNG."""
    array = sample.permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG")
    return buffer.getvalue()


def export(samples: SampleSet, path: Path) -> None:
    """Write a sample set to a `.npz`, a dataset `.zip`, or else a folder of PNGs."""
    if path.exists():
        raise DataError(f"{path} exists; name another place")
    if path.suffix == ".npz":
        save_npz(path, samples.read(range(len(samples))), samples.labels)
    elif len(samples.shape) != 3:
        raise DataError(f"points can only be written to .npz, not to {path}")
    elif path.suffix == ".zip":
        _export_zip(samples, path)
    else:
        _export_folder(samples, path)


def _export_zip(samples: SampleSet, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    labels = []
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for index, content in _pngs(samples):
            name = f"{index // 1000:05d}/img{index:08d}.png"
            archive.writestr(name, content)
            if samples.labels is not None:
                labels.append([name, int(samples.labels[index])])
        archive.writestr("dataset.json", json.dumps({"labels": labels or None}))
    os.replace(partial, path)


def _export_folder(samples: SampleSet, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    for index, content in _pngs(samples):
        folder = partial / f"{int(samples.labels[index]):04d}" if samples.labels is not None else partial
        folder.mkdir(exist_ok=True)
        (folder / f"{index:06d}.png").write_bytes(content)
    os.replace(partial, path)


def _pngs(samples: SampleSet):  # type: ignore[no-untyped-def]
    index = 0
    for batch in batches(samples):
        for sample in batch:
            yield index, png(sample)
            index += 1
