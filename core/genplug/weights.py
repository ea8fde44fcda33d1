"""Finding the weights of presets and paths: in a package, on disk, in the cache."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from genplug.errors import WeightsError
from genplug.parts import Resolved
from genplug.paths import cache_directory
from genplug.specs import Preset


def require(resolved: Resolved) -> None:
    """Refuse a run whose weights are missing, before anything heavy is imported."""
    for part in (resolved.generator, *(reference.part for reference in resolved.references)):
        find(part.preset, part.weights)


def locate(preset: Preset | None, path: str | None) -> Path | None:
    """Return the safetensors file of explicit weights or of a preset, checked; None if it has none."""
    found = find(preset, path)
    if found is not None and path is None and preset is not None:
        _check(found, preset)
    return found


def find(preset: Preset | None, path: str | None) -> Path | None:
    """Return where the weights are, without reading them; missing ones raise with the remedy.

    A preset's address is `package:MODULE/FILE` for weights that travel in a package, or a
    download, which is looked for in the cache. The path `none` asks for random weights.
    """
    if path == "none":
        return None
    if path is not None:
        if not Path(path).is_file():
            raise WeightsError(f"no weights at {path}")
        return Path(path)
    if preset is None or preset.address is None:
        return None
    if preset.address.startswith("package:"):
        found, remedy = _shipped(preset.address), "reinstall the package"
    else:
        found, remedy = cached_path(preset), f"download {preset.address}, convert it and place it there"
    if not found.is_file():
        raise WeightsError(f"the weights of {preset.name!r} are not at {found}; {remedy}")
    return found


def _shipped(address: str) -> Path:
    """Return where a package that may not be installed keeps a file."""
    module, _, name = address.removeprefix("package:").partition("/")
    try:
        return Path(str(resources.files(module))) / name
    except ModuleNotFoundError:
        return Path(module) / name


def cached_path(preset: Preset) -> Path:
    """Return where the weights of a published preset belong."""
    return cache_directory() / "weights" / f"{preset.name}.safetensors"


def _check(path: Path, preset: Preset) -> None:
    """Compare a file with the preset's sha256, where one is known."""
    if preset.sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != preset.sha256:
        raise WeightsError(
            f"{path} has sha256 {found}, not {preset.sha256} as preset {preset.name!r} says; remove it"
        )
