"""What guidance by a second model shares: the guided generator, and which guide was named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genplug.checkpoints import digest
from genplug.errors import RunDirectoryError, WeightsError
from genplug.guided import guided
from genplug.matching import provided
from genplug.paths import split_reference
from genplug.presets import registry
from genplug.resolving import resolve_generator
from genplug.runtime import Run
from genplug.stages import write_json
from genplug.weights import find
from genplug_guidance.config import GuidanceConfig
from genplug_guidance.strength import strength_of

FACTS, WEIGHTS = "guide.json", "guide.safetensors"


def away_from(generator: Any, guide: Any, config: GuidanceConfig, unconditioned: bool = False) -> Any:
    """Return a generator guided away from another one; the generator itself where `guide` is None."""
    return guided(generator, guide, strength_of(config, generator), unconditioned)


def named(run: Run, name: str) -> Any:
    """Return the guide that a preset, a run or a component with weights is."""
    if split_reference(name)[0] is None:
        part = resolve_generator(name, run.catalog, registry(run.catalog))
        if "trainable" in provided(part) and find(part.preset, part.weights) is None:
            raise WeightsError(f"guide {name!r} has no weights; name a preset, or a run that trains it")
    return run.generator(name)


def save_named(generator: Any, directory: Path, name: str) -> None:
    """Note which guide was named, and a digest of its weights; they stay where they are."""
    write_json(directory / FACTS, {"guide": name, "weights": digest(guide_weights(generator))})


def named_again(run: Run, name: str, directory: Path) -> Any:
    """Return a named guide, refusing other weights than those it had when `save_named` saw it."""
    guide = named(run, name)
    saved = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    if digest(guide.state_dict()) != saved["weights"]:
        raise RunDirectoryError(
            f"{directory}: the guide {name!r} has other weights now; start again with --force"
        )
    return guide


def guide_weights(generator: Any) -> dict[str, Any]:
    """Return the weights of the guide that a generator was last guided by."""
    state: dict[str, Any] = generator.denoiser.pushes[-1].state_dict()
    return state
