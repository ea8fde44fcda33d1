"""A run's directory: whose it is, and the one configuration that it holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import tomli_w

from genplug.config import flatten, read_toml
from genplug.errors import RunDirectoryError
from genplug.locks import LOCK
from genplug.parts import Resolved
from genplug.paths import RUN_FILE


def prepare(directory: Path, resolved: Resolved, force: bool) -> None:
    """Empty a run directory if asked to, and record its one configuration."""
    recorded = directory / RUN_FILE
    _check_ours(directory)
    if force:
        _empty(directory)
    text = tomli_w.dumps(resolved.record())
    if recorded.is_file() and recorded.read_text(encoding="utf-8") != text:
        _refuse(directory, read_toml(recorded), resolved.record())
    partial = recorded.with_name(f".{RUN_FILE}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(recorded)


def _check_ours(directory: Path) -> None:
    """Refuse a folder that holds something else than a run: `--force` would delete it."""
    foreign = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
    if foreign and not (directory / RUN_FILE).is_file():
        raise RunDirectoryError(
            f"{directory} holds {min(foreign)!r} but no {RUN_FILE}: it is not a run directory; "
            "choose another --out"
        )


def _empty(directory: Path) -> None:
    """Delete a run; what says that the directory is one goes last."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == RUN_FILE):
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _refuse(directory: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Say which keys differ from the run that the directory holds.

    What a preset was is recorded for replays alone: all its values stand in the sections too.
    """
    both = ({key: value for key, value in run.items() if key != "preset"} for run in (old, new))
    before, after = (dict(flatten(_numbered(json.loads(json.dumps(value))))) for value in both)
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    if not changed:
        return
    key = changed[0]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    raise RunDirectoryError(
        f"{directory} holds another run: {key} was {before.get(key)!r}, now {after.get(key)!r}{more}; "
        "choose another --out, or start again with --force"
    )


def _numbered(values: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with its objectives by number, so that a change in one has a key."""
    objectives = {str(number): item for number, item in enumerate(values.get("objective", []), 1)}
    return {**values, "objective": objectives.get("1", {}) if len(objectives) == 1 else objectives}
