"""The work of `genplug sample`: batches into a hidden folder beside OUT, then OUT in one piece."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from genplug import writers
from genplug.checkpoints import digest
from genplug.errors import DataError, RunDirectoryError
from genplug.loading import RUN_FILE, load_in, split_reference
from genplug.protocols import Generator
from genplug.resolve import Part
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import SampleSet, read_all
from genplug.sampling import draw as draw_batches
from genplug.sampling import open_samples
from genplug.settings import RunSettings, RuntimeSettings
from genplug.stages import digest_of, write_json
from genplug_cli import terminal
from genplug_cli.ordering import Order

_KEY = "command.json"


def draw(order: Order, part: Part, quiet: bool) -> dict[str, Any]:
    """Draw and export samples; return what was made."""
    settings = RunSettings(batch_size=order.batch, classes=order.classes)
    run = Run(make_accelerator(settings, RuntimeSettings()), settings, log=terminal.log(quiet))
    generator = load_in(run, order.reference, order.values)
    work = order.out.absolute().with_name(f".{order.out.name}.partial")
    lock = _claim(run, work, _key(order, part, generator))
    try:
        seeds_N = torch.arange(order.first, order.first + order.count, dtype=torch.int64)
        draw_batches(run, generator, seeds_N, order.batch, order.classes, work, order.reference)
        _wait(run)
        if run.is_main:
            _export(open_samples(work, order.reference), order, seeds_N, work)
    finally:
        if lock is not None:
            lock.release()
    if run.is_main:
        shutil.rmtree(work)
    return _facts(order, generator)


def _key(order: Order, part: Part, generator: Generator) -> dict[str, Any]:
    """Return what the samples depend on: batches of two commands must not meet in one folder."""
    directory, role = split_reference(order.reference)
    recorded = (directory / RUN_FILE).read_text(encoding="utf-8") if directory is not None else ""
    made_by = {"role": role, "run": recorded, "base": part.record()}
    weights = digest(generator.state_dict())
    asked = [order.first, order.count, order.classes, order.batch]
    return {"generator": made_by, "weights": weights, "asked": asked}


def _claim(run: Run, work: Path, key: Mapping[str, Any]) -> FileLock | None:
    """Take the folder of unfinished samples for this command alone."""
    if not run.is_main:
        _wait(run)
        return None
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunDirectoryError(f"{work} is in use by another process; name another -o") from None
    recorded = work / _KEY
    if recorded.is_file() and recorded.read_text(encoding="utf-8").strip() != json.dumps(digest_of(key)):
        lock.release()
        raise RunDirectoryError(
            f"{work} holds unfinished samples of another command (options or weights differ); "
            "remove it or name another -o"
        )
    write_json(recorded, digest_of(key))
    _wait(run)
    return lock


def _export(samples: SampleSet, order: Order, seeds_N: Tensor, work: Path) -> None:
    """Write the samples with their seeds, then put them in place."""
    whole = work / f"whole{order.out.suffix if order.out.suffix in ('.npz', '.zip') else ''}"
    if whole.exists():
        shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    if whole.suffix == ".npz":
        writers.save_npz(whole, read_all(samples), samples.labels, seeds=seeds_N)
    else:
        writers.export(samples, whole)
        _add_manifest(whole, json.dumps(_manifest(samples, order, seeds_N)))
    if order.out.exists():
        raise DataError(f"{order.out} exists now; move it away and give the same command again")
    os.replace(whole, order.out)


def _manifest(samples: SampleSet, order: Order, seeds_N: Tensor) -> dict[str, Any]:
    """Return index (the number in the file's name), seed and label of every sample."""
    labels = samples.labels.tolist() if samples.labels is not None else [None] * len(samples)
    rows = [
        {"index": index, "seed": seed, "label": label}
        for index, (seed, label) in enumerate(zip(seeds_N.tolist(), labels, strict=True))
    ]
    head = {"generator": order.reference, "options": dict(order.values), "classes": order.classes}
    return {**head, "batch": order.batch, "samples": rows}


def _add_manifest(whole: Path, text: str) -> None:
    if whole.is_dir():
        (whole / "manifest.json").write_text(text + "\n", encoding="utf-8")
    else:
        with zipfile.ZipFile(whole, "a") as archive:
            archive.writestr("manifest.json", text)


def _wait(run: Run) -> None:
    run.accelerator.wait_for_everyone()  # type: ignore[no-untyped-call]


def _facts(order: Order, generator: Generator) -> dict[str, Any]:
    return {
        "out": str(order.out),
        "n": order.count,
        "generator": order.reference,
        "modality": generator.modality,
        "seeds": [order.first, order.first + order.count - 1],
        "classes": order.classes,
    }
