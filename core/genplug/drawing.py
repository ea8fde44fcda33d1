"""`genplug.sample`: batches into a hidden folder beside OUT, then OUT in one piece."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from genplug import writers
from genplug.checkpoints import digest
from genplug.errors import RunDirectoryError
from genplug.loading import load_in
from genplug.locks import claimed
from genplug.log import Log, Silent
from genplug.ordering import BATCH_SIZE, Order, check
from genplug.parts import Part
from genplug.paths import RUN_FILE, check_target, split_reference
from genplug.protocols import Generator, Policy
from genplug.runtime import Run, make_accelerator
from genplug.sampling import draw, open_samples
from genplug.settings import RunSettings, RuntimeSettings
from genplug.stages import digest_of, write_json

_KEY = "command.json"


def sample(
    reference: str,
    n: int,
    *,
    out: str | Path,
    first_seed: int = 0,
    classes: Policy = "balanced",
    batch_size: int = BATCH_SIZE,
    log: Log | None = None,
    **options: Any,
) -> Path:
    """Write n samples to `out`: a folder of PNGs, an `.npz` in ADM's layout, or a dataset `.zip`.

    Sample i comes from seed `first_seed` + i alone; seeds and labels are written beside the
    samples. `reference` and `options` are those of `genplug.load`. The same call continues where
    it stopped; what exists is never overwritten.
    """
    values = {key.replace("__", "."): value for key, value in options.items()}
    order = Order(reference, n, Path(out), first_seed, classes, batch_size, values)
    fulfil(order, check(order), log or Silent())
    return order.out


def fulfil(order: Order, part: Part, log: Log) -> Generator:
    """Draw and export what was ordered; `part` is what `check` found."""
    settings = RunSettings(batch_size=order.batch_size, classes=order.classes)
    run = Run(make_accelerator(settings, RuntimeSettings()), settings, log=log)
    generator = load_in(run, order.reference, order.options)
    work = order.out.absolute().with_name(f".{order.out.name}.partial")
    key = _key(order, part, generator)
    with claimed(run, work, lambda: _prepare(work, key), "name another place"):
        seeds_N = torch.arange(order.first, order.first + order.count, dtype=torch.int64)
        draw(run, generator, seeds_N, order.batch_size, order.classes, work, order.reference)
        run.wait()
        if run.is_main:
            _export(order, part, work, seeds_N)
    if run.is_main:
        shutil.rmtree(work)
    run.wait()
    return generator


def _key(order: Order, part: Part, generator: Generator) -> dict[str, Any]:
    """Return what the samples depend on: batches of two commands must not meet in one folder."""
    directory, role = split_reference(order.reference)
    recorded = (directory / RUN_FILE).read_text(encoding="utf-8") if directory is not None else ""
    made_by = {"role": role, "run": recorded, "base": part.record()}
    weights = digest(generator.state_dict())
    asked = [order.first, order.count, order.classes, order.batch_size]
    return {"generator": made_by, "weights": weights, "asked": asked}


def _prepare(work: Path, key: Mapping[str, Any]) -> None:
    """Record what the unfinished samples in a folder are; refuse those of another command."""
    recorded, digest_now = work / _KEY, digest_of(key)
    if recorded.is_file() and recorded.read_text(encoding="utf-8").strip() != json.dumps(digest_now):
        raise RunDirectoryError(
            f"{work} holds unfinished samples of another command (options or weights differ); "
            "remove it or name another place"
        )
    write_json(recorded, digest_now)


def _export(order: Order, part: Part, work: Path, seeds_N: torch.Tensor) -> None:
    """Write the samples with their seeds, then put them in place."""
    whole = work / f"whole{order.out.suffix}"
    if whole.exists():
        shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    made_by = {"generator": order.reference, "options": dict(order.options)}
    facts = {**made_by, "classes": order.classes, "batch": order.batch_size}
    writers.export(open_samples(work, order.reference), whole, seeds_N, facts)
    check_target(order.out, part.entry.spec.modality)
    os.replace(whole, order.out)
