"""Finding the weights of presets and paths: in a package, on disk, in the cache."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from genplug.errors import WeightsError
from genplug.paths import cache_directory
from genplug.specs import Preset


def locate(preset: Preset | None, path: str | None) -> Path | None:
    """Return the safetensors file of explicit weights or of a preset; None if it has none.

    A preset's address is `package:MODULE/FILE` for weights that travel in a package, or a
    download, which is looked for in the cache.
    """
    if path is not None:
        if not Path(path).is_file():
            raise WeightsError(f"no weights at {path}")
        return Path(path)
    if preset is None or preset.address is None:
        return None
    if preset.address.startswith("package:"):
        module, _, name = preset.address.removeprefix("package:").partition("/")
        found = Path(str(resources.files(module))) / name
        remedy = f"reinstall {module}"
    else:
        found, remedy = cached_path(preset), f"download {preset.address}, convert it and place it there"
    if not found.is_file():
        raise WeightsError(f"the weights of {preset.name!r} are not at {found}; {remedy}")
    _check(found, preset)
    return found


def cached_path(preset: Preset) -> Path:
    """Return where the weights of a published preset belong."""
    return cache_directory() / "weights" / f"{preset.name}.safetensors"


def _check(path: Path, preset: Preset) -> None:
    """Compare a file with the preset's sha256, where one is known."""
    if preset.sha256 is None:
        return
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != preset.sha256:
        raise WeightsError(f"{path} has sha256 {found}, not {preset.sha256} as preset {preset.name!r} says; remove it")
