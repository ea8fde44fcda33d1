"""Where genplug keeps things, and what the paths that users name mean."""

from __future__ import annotations

import os
from pathlib import Path

from genplug.errors import DataError

RUN_FILE = "run.toml"
FORMATS = ("", ".npz", ".zip")  # of written samples: a folder, ADM's layout, a dataset zip


def cache_directory() -> Path:
    """Return where downloads and features are cached: GENPLUG_CACHE or the user's cache folder."""
    if named := os.environ.get("GENPLUG_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "genplug"


def split_reference(reference: str) -> tuple[Path | None, str]:
    """Split `runs/x:improved` into directory and role; (None, "") if it is no run directory."""
    whole, (path, _, role) = Path(reference), reference.rpartition(":")
    if reference and os.path.isfile(whole / RUN_FILE):  # False, not an error, for what is no path at all
        return whole, "improved"
    if path and os.path.isfile(Path(path) / RUN_FILE):
        return Path(path), role
    return None, ""


def check_target(path: Path, modality: str) -> None:
    """Refuse a place that samples cannot be written to."""
    if os.path.exists(path):
        raise DataError(f"{path} exists; name another place")
    if path.suffix not in FORMATS:
        raise DataError(f"{path}: samples are written to a folder (a name without suffix), .npz or .zip")
    if modality == "points" and path.suffix != ".npz":
        raise DataError(f"points can only be written to .npz, not to {path}")
