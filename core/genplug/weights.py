"""Finding the weights of presets and paths: in a package, on disk, in the cache. Never downloads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from genplug.errors import WeightsError
from genplug.parts import Part, Reference, Resolved
from genplug.paths import cache_directory
from genplug.receipts import disagreement, read_receipt
from genplug.specs import Preset


def require(resolved: Resolved) -> None:
    """Refuse a run whose weights are missing, before anything heavy is imported."""
    require_of(resolved.generator, resolved.references)
    require_extractors(resolved.all_extractors)


def require_extractors(parts: Iterable[Part]) -> None:
    """Refuse extractors without their weights."""
    from genplug.extractors import preset_of

    for part in parts:
        find(preset_of(part), part.weights)


def require_of(generator: Part, references: Iterable[Reference]) -> None:
    """Refuse a generator, or second generators, without their weights."""
    for part in (generator, *(reference.part for reference in references)):
        find(part.preset, part.weights)


def locate(preset: Preset | None, path: str | None) -> Path | None:
    """Return the safetensors file of explicit weights or of a preset, checked; None if it has none."""
    found = find(preset, path)
    if found is not None and path is None and preset is not None:
        _check(found, preset)
    return found


def find(preset: Preset | None, path: str | None) -> Path | None:
    """Return where the weights are, without reading them; missing ones raise with the remedy.

    A preset's weights travel in a package, or `genplug fetch` has put them into the cache. The
    path `none` asks for random weights.
    """
    if path == "none":
        return None
    if path is not None:
        if not os.path.isfile(path):
            raise WeightsError(f"no weights at {path}")
        return Path(path)
    if preset is None or preset.address is None:
        return None
    if is_shipped(preset):
        found = _shipped(preset.address)
        module = preset.address.removeprefix("package:").partition("/")[0]
        remedy = f"install the package that holds {module!r}"
    else:
        found, remedy = cached_path(preset), f"genplug fetch {preset.asked}"
    if not found.is_file():
        raise WeightsError(f"the weights of {preset.name!r} are not at {found}; {remedy}")
    return found


def is_shipped(preset: Preset) -> bool:
    """Return whether a preset's weights travel in an installed package."""
    return preset.address is not None and preset.address.startswith("package:")


def _shipped(address: str) -> Path:
    """Return where a package that may not be installed keeps a file."""
    module, _, name = address.removeprefix("package:").partition("/")
    try:
        return Path(str(resources.files(module))) / name
    except ModuleNotFoundError:
        return Path(module) / name


def cached_path(preset: Preset) -> Path:
    """Return where the weights of a published preset belong."""
    return fetched_path(preset.name)


def fetched_path(name: str) -> Path:
    """Return where `genplug fetch` puts the weights of a preset of this name."""
    return cache_directory() / "weights" / f"{name}.safetensors"


def _check(path: Path, preset: Preset) -> None:
    """Compare a file with its known sha256: the registry's for shipped weights, else that of the fetch."""
    receipt = None if is_shipped(preset) else read_receipt(path)
    if receipt is not None and (reason := disagreement(receipt, preset)):
        raise WeightsError(f"{path} {reason}; replace it with genplug fetch {preset.asked} --force")
    expected = preset.sha256 if is_shipped(preset) else receipt and receipt.weights_sha256
    if not expected:
        return
    found = sha256_of(path)
    if found != expected:
        known = "preset says" if is_shipped(preset) else "was fetched"
        raise WeightsError(
            f"{path} has sha256 {found}, not {expected} as {known}; "
            f"remove it{'' if is_shipped(preset) else f' and repeat genplug fetch {preset.asked}'}"
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
