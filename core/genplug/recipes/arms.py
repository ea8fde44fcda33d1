"""What a recipe makes run: the configuration of each arm, resolved and checked before any work."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from genplug.chains import models, step_of
from genplug.config import merge, nest
from genplug.errors import ConfigError, GenplugError
from genplug.parts import Resolved
from genplug.paths import RUN_FILE
from genplug.recipes.form import Arm, Form, read_form
from genplug.registry import catalog
from genplug.resolving import resolve
from genplug.sweeps import text_of

SHARED = ("run", "runtime", "dataset", "extractor", "evaluator")  # what --set may change for all arms


@dataclass(frozen=True)
class Order:
    """A recipe as it is asked for: how many seeds, whether in small, with which options for all arms."""

    name: str
    path: Path
    form: Form
    seeds: int
    tiny: bool = False
    options: tuple[tuple[str, Any], ...] = ()


def find_order(name: str, sets: Sequence[tuple[str, Any]] = ()) -> Order:
    """Return an installed recipe by name, or one in a file (`my.toml`), with its options.

    `recipe.seeds` and `recipe.tiny` are options of the recipe itself, the others are for all its arms.
    """
    path = Path(name) if name.endswith(".toml") else Path(catalog().recipe(name).recipe.path)
    form = read_form(path)
    own = {key.removeprefix("recipe."): value for key, value in sets if key.startswith("recipe.")}
    if unknown := sorted(set(own) - {"seeds", "tiny"}):
        raise ConfigError(f"unknown key 'recipe.{unknown[0]}' (known: recipe.seeds, recipe.tiny)")
    seeds, tiny = own.get("seeds", form.seeds), own.get("tiny", False)
    if type(seeds) is not int or not 1 <= seeds <= 64 or type(tiny) is not bool:
        raise ConfigError("recipe.seeds is a number from 1 to 64, recipe.tiny is true or false")
    others = tuple((key, value) for key, value in sets if not key.startswith("recipe."))
    for key, _ in others:
        if key.split(".")[0] not in SHARED or key == "run.seed":
            raise ConfigError(
                f"--set {key}: of a recipe, {', '.join(SHARED)} can be set for all arms; "
                "for the rest copy its file, change it and name it: --recipe FILE"
            )
    return Order(path.stem, path, form, seeds, tiny, others)


def directory_of(out: Path, seed: int, arm: str) -> Path:
    """Return the run directory of an arm."""
    return out / f"seed-{seed}" / arm


def resolve_arm(asked: Order, arm: Arm, seed: int, out: Path) -> Resolved:
    """Resolve an arm whose placeholders are folders below `out`."""
    places = {one.name: str(directory_of(out, seed, one.name)) for one in asked.form.arm}
    config = filled(merged(asked, arm), places)
    config = merge(config, {"run": {"seed": seed}}, nest(dict(asked.options)))
    try:
        return resolve(config=config, config_name=f"recipe {asked.name}")
    except GenplugError as error:
        raise type(error)(f"arm {arm.name!r} of recipe {asked.name!r}: {error}") from None


def merged(asked: Order, arm: Arm) -> dict[str, Any]:
    """Return an arm's configuration: what all share, then its own, then what makes it small."""
    layers = [asked.form.config, arm.config]
    if asked.tiny:
        layers += [asked.form.tiny, arm.tiny]
    config = merge(*(by_number(layer) for layer in layers))
    if numbered := config.get("objective"):
        config["objective"] = [numbered[number] for number in sorted(numbered, key=int)]
    if arm.sweep is not None:
        config["sweep"] = arm.sweep.model_dump()
    return config


def by_number(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with its objectives as sections by number, so that they merge by place."""
    objectives = config.get("objective", [])
    if isinstance(objectives, Mapping):
        objectives = [objectives]
    return {**config, "objective": {str(number): item for number, item in enumerate(objectives, 1)}}


def filled(value: Any, places: Mapping[str, str]) -> Any:
    """Return a configuration with folders in the place of `{ARM}`."""
    if isinstance(value, dict):
        return {key: filled(inner, places) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [filled(inner, places) for inner in value]
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace(f"{{{name}}}", place)
    return value


def plan_arms(asked: Order) -> dict[str, Resolved]:
    """Resolve every arm as if those before it had run, and check the models that the recipe names.

    Arms are written down in a folder that is gone afterwards: no weights are there, and none are needed.
    """
    with tempfile.TemporaryDirectory(prefix="genplug-") as folder:
        found = {}
        for arm in asked.form.arm:
            found[arm.name] = resolve_arm(asked, arm, 0, Path(folder))
            place = directory_of(Path(folder), 0, arm.name)
            place.mkdir(parents=True)
            (place / RUN_FILE).write_text(tomli_w.dumps(found[arm.name].record()), encoding="utf-8")
    for cell in asked.form.cells:
        arm_name, _, model = cell.partition(":")
        try:
            judged_name(found[arm_name], model)
        except GenplugError as error:
            raise ConfigError(f"{cell!r} in recipe {asked.name!r}: {error}") from None
    return found


def judged_name(resolved: Resolved, model: str) -> str:
    """Return a model's key in metrics.json; it may be named by its step too, and `scale=2` as `scale=2.0`."""
    if model == "floor":
        return model
    option, separator, value = model.partition("=")
    if separator:
        with contextlib.suppress(ValueError):
            model = f"{option}={text_of(float(value))}"
    judged, step = models(resolved), step_of(resolved, model)
    found = [name for name, own in judged.items() if own == step]
    if not found:
        raise ConfigError(f"{model!r} is not judged; set run.evaluate_each = true")
    return found[0]
