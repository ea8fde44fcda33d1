"""Features of sample sets, extracted once per (contents, extractor) and cached on disk.

The key is the content of the samples and the extractor's fingerprint (weights and
preprocessing), never a file name: renamed folders hit, changed ones miss.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genplug.checkpoints import load_weights, save_weights
from genplug.errors import DataError, WeightsError
from genplug.memory import Fitting
from genplug.paths import cache_directory
from genplug.samplesets import SampleSet

if TYPE_CHECKING:
    from genplug.protocols import Extractor
    from genplug.runtime import Run


def features(run: Run, samples: SampleSet, extractor_name: str) -> Tensor:
    """Return the default output of an extractor for every sample, float32 ND."""
    extractor = run.extractor(extractor_name)
    key = hashlib.sha256(f"{samples.fingerprint}:{extractor.fingerprint}".encode()).hexdigest()
    path = cache_directory() / "features" / f"{key}.safetensors"
    cached = _read(path, len(samples))
    if run.all(cached is not None) and cached is not None:
        run.event("features", samples=samples.name, extractor=extractor_name, cached=True)
        return cached
    feat_ND = extract(run, samples, extractor_name)
    if run.is_main:
        _write(run, path, feat_ND)
    run.wait()
    return feat_ND


def extract(run: Run, samples: SampleSet, extractor_name: str) -> Tensor:
    """Extract features, batches shared out over processes, rows back in order."""
    extractor = run.extractor(extractor_name)
    size = run.settings.batch_size
    starts = range(0, len(samples), size)
    mine = starts[run.accelerator.process_index :: run.accelerator.num_processes]
    label = f"{extractor_name} of {samples.name}"
    fitting = Fitting(run, label, size)
    parts: dict[int, Tensor] = {}
    with run.log.progress(label, len(mine), "batch") as advance, torch.inference_mode():
        for first in mine:
            rows = range(first, min(first + size, len(samples)))
            parts[first] = fitting.rows(len(rows), partial(_some, run, samples, extractor, rows))
            advance()
    fitting.settle()
    if run.accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        parts = dict(gather_object(list(parts.items())))
    feat_ND = torch.cat([parts[start] for start in starts])
    if not bool(feat_ND.isfinite().all()):
        row = int((~feat_ND.isfinite()).any(1).nonzero()[0])
        raise DataError(
            f"{extractor_name} gives features that are not finite for sample {row} of {samples.name}"
        )
    return feat_ND


def _some(run: Run, samples: SampleSet, extractor: Extractor, rows: range, start: int, stop: int) -> Tensor:
    """Return the features of `rows[start:stop]`, on the CPU."""
    read = samples.read(rows[start:stop])
    inputs = torch.stack([extractor.preprocess(sample) for sample in read]).to(run.device)
    return next(iter(extractor(inputs).values())).to("cpu", torch.float32)


def _read(path: Path, count: int) -> Tensor | None:
    """Return cached features of `count` samples, or None; a damaged file counts as absent."""
    try:
        feat_ND = load_weights(path)["features"]
    except (WeightsError, KeyError):
        return None
    return feat_ND if feat_ND.dtype == torch.float32 and feat_ND.shape[:1] == (count,) else None


def _write(run: Run, path: Path, feat_ND: Tensor) -> None:
    """Cache features; a read-only or full cache costs speed, not the run, and is told once."""
    try:
        save_weights({"features": feat_ND}, path)
    except OSError as error:
        reason = error.strerror or error
        run.once("no-cache", lambda _: run.log.warn(f"features are not cached in {path.parent} ({reason})"))
