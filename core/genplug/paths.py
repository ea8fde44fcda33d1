"""Where genplug keeps things outside a run directory."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return where downloads and features are cached: GENPLUG_CACHE or the user's cache folder."""
    if named := os.environ.get("GENPLUG_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "genplug"
