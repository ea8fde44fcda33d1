"""Stages: named results in a run directory, atomic and never made twice.

A stage is written beside its target, in `NAME.partial`, and renamed when whole. `stage.json` in it
holds the key: a digest of everything the result depends on. A partial directory with the same
key is continued, so long work keeps its own finished pieces there; with another key it is
discarded. A finished stage with another key is an error, never silently redone.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genplug.errors import RunDirectoryError

KEY_FILE = "stage.json"


def digest_of(value: Any) -> str:
    """Return a sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON: whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def strict_json(value: Any) -> Any:
    """Return a value with infinities and NaN as text, which strict JSON readers need."""
    if isinstance(value, Mapping):
        return {key: strict_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def run_stage(
    directory: Path,
    name: str,
    key: Mapping[str, Any],
    work: Callable[[Path], None],
    is_main: bool = True,
    wait: Callable[[], None] = lambda: None,
) -> Path:
    """Return the stage's directory, doing `work(partial directory)` only if it is not there yet.

    On several processes all of them work in the same partial directory; the main one opens
    and renames it, `wait` is the barrier between.
    """
    target = directory / name
    digest = digest_of(key)
    if finished(target, name, digest):
        return target
    partial = target.with_name(f"{target.name}.partial")
    if is_main:
        if partial.exists() and _read_digest(partial) != digest:
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        write_json(
            partial / KEY_FILE,
            {"name": name, "digest": digest, "key": json.loads(json.dumps(key, default=str))},
        )
    wait()
    work(partial)
    wait()
    if is_main:
        os.replace(partial, target)
    wait()
    return target


def finished(target: Path, name: str, digest: str) -> bool:
    """Return whether a stage is there; one made from something else raises."""
    if not target.exists():
        return False
    if _read_digest(target) != digest:
        raise RunDirectoryError(
            f"{target} was made from other inputs (weights, data or plugin version changed since); "
            "choose another --out or start again with --force"
        )
    return True


def _read_digest(directory: Path) -> str | None:
    try:
        value = json.loads((directory / KEY_FILE).read_text(encoding="utf-8"))
        return str(value["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
