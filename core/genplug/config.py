"""Configuration: one pydantic field per option, layered, with one spelling per key.

A value comes from, later wins: the field's default, the preset, the TOML file, `--set`. A key
is spelled `generator.sampler.steps` everywhere. Unknown keys are answered with the nearest one
and where they came from. Importing this module imports pydantic and nothing heavier.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from genplug import toml
from genplug.errors import ConfigError, nearest, shown

T = TypeVar("T", bound=BaseModel)


class Options(BaseModel):
    """A section of options: frozen, no unknown keys, every option bounded and described."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=True)


class Config(Options):
    """Base of all components' configurations."""

    @abstractmethod
    def build(self, run: Any) -> Any:
        """Import the implementation and return the component."""


class GeneratorConfig(Config):
    """Base of generators' configurations; `build(run)` returns a `genplug.protocols.Generator`."""

    @abstractmethod
    def provides(self) -> frozenset[str]:
        """Return what this configuration can do, a subset of its spec's `provides`."""

    def x_shape(self) -> tuple[int, ...] | None:
        """Return the shape of one x, where known without building the generator."""
        return None

    def sample_shape(self) -> tuple[int, ...] | None:
        """Return the shape of one sample, where known: a denoiser's x, unless that is a latent."""
        has = self.provides()
        return self.x_shape() if "denoiser" in has and "latent" not in has else None


class Component(BaseModel):
    """A component inside another one's configuration: its name and its own options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options."""
        return dict(self.model_extra or {})


@dataclass(frozen=True)
class Kind:
    """Marks a `Component` field with the kind of component it names."""

    kind: str


@dataclass(frozen=True)
class Needs:
    """Marks a `GeneratorRef` field with the capabilities that the generator must have."""

    capabilities: tuple[str, ...] = ()


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_NAMED = BeforeValidator(_named)
SamplerRef = Annotated[Component, _NAMED, Kind("sampler")]
DistanceRef = Annotated[Component, _NAMED, Kind("distance")]
#: A reference to an extractor, NAME[.TAG][:ARGUMENT][@OUTPUT], whose options are in `[extractor.NAME]`.
ExtractorName = Annotated[str, Kind("extractor")]
ExtractorRef = Annotated[Component, _NAMED, Kind("extractor")]
GeneratorRef = Annotated[str, Needs()]


class TrainConfig(Options):
    """Options of the one training loop, `Run.fit`."""

    steps: int = Field(1000, ge=1, description="optimiser steps")
    batch_size: int = Field(256, ge=1, description="rows per step, over all processes")
    accumulate: int = Field(1, ge=1, description="micro-batches per step")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of Adam")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's decay of the gradient mean")
    beta2: float = Field(0.99, ge=0, lt=1, description="Adam's decay of the squared gradient")
    warmup: float = Field(0.0, ge=0, le=1, description="share of the steps with linearly rising rate")
    decay: float = Field(
        0.0, ge=0, description="EDM2's inverse square root decay starts after this many steps (0: no decay)"
    )
    cooldown: float = Field(
        0.0, ge=0, le=1, description="share of the steps with linearly falling rate at the end"
    )
    clip: float = Field(0.0, ge=0, description="largest gradient norm (0: none)")
    ema_halflife: float = Field(0.0, ge=0, description="half-life of the weight average in steps (0: none)")
    ema_std: tuple[float, ...] = Field((), description="relative lengths of power-function weight averages")
    balance: bool = Field(False, description="draw the classes equally often")
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="seconds between resumable states (0: every step)"
    )


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested mappings as dotted keys."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}.")
        else:
            yield path, value


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested dictionaries; the inverse of `flatten`."""
    result: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = result
        for parent in parents:
            child = node.setdefault(parent, {})
            if isinstance(child, str):  # 'sampler=heun' before 'sampler.steps=8' names the component
                child = node[parent] = {"name": child}
            if not isinstance(child, dict):
                raise ConfigError(f"{key}: {parent!r} is a value, not a section")
            node = child
        if isinstance(node.get(last), dict):  # and so after it
            node, last = node[last], "name"
        node[last] = value
    return result


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings, later wins.

    A component named anew (`sampler = "euler"`) drops the options of the one before it.
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            if isinstance(value, Mapping) and isinstance(old, str):
                old = {"name": old}
            if isinstance(value, str) and isinstance(old, Mapping) and "name" in old:
                value = {"name": value}
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                renamed = "name" in value and old.get("name") != value["name"]
                result[key] = merge(value) if renamed else merge(old, value)
            else:
                result[key] = merge(value) if isinstance(value, Mapping) else value
    return result


def parse_set(assignment: str) -> tuple[str, Any]:
    """Parse `key=value` as `--set` takes it; the value is TOML, or else a plain string."""
    key, separator, text = assignment.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not separator or not all(parts) or len(parts) > toml.DEPTH:
        raise ConfigError(f"--set {shown(assignment)}: expected KEY=VALUE, as in generator.sampler.steps=32")
    return key, toml.parse_value(text.strip())


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, with errors as one line that names the file."""
    try:
        return toml.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def validate(
    model: type[T], values: Mapping[str, Any], section: str, origins: Mapping[str, str] | None = None
) -> T:
    """Validate values against a model.

    Errors name the full key, the value, where it came from (`origins` by key) and the nearest key.
    """
    try:
        return model.model_validate(merge(_inner_defaults(model, values), values))
    except ValidationError as error:
        raise ConfigError(_explain(error, model, section, origins or {})) from None


def _inner_defaults(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of components and sections of which values give a part only."""
    found = {name: info.get_default() for name, info in model.model_fields.items() if name in values}
    return {name: default.model_dump() for name, default in found.items() if isinstance(default, BaseModel)}


def origin_of(key: str, origins: Mapping[str, str]) -> str:
    """Return `" (from PLACE)"` for a key, or for the first key below it; empty if nobody set it."""
    found = next((place for k, place in origins.items() if k == key or k.startswith(f"{key}.")), "")
    return f" (from {found})" if found else ""


def _explain(error: ValidationError, model: type[BaseModel], section: str, origins: Mapping[str, str]) -> str:
    """Describe the first problem of a validation error in one line."""
    found = error.errors(include_url=False)
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    key = ".".join([section, *map(str, first["loc"])]) if section else ".".join(map(str, first["loc"]))
    where = origin_of(key, origins)
    if first["type"] == "extra_forbidden":
        hint = nearest(key, keys(model, section))
        known = ", ".join(keys(model, section)) or "no options"
        return f"unknown key {key!r}{where}{hint or f' (known: {known})'}"
    if first["type"] == "missing":
        return f"{key!r} has no value{where}; set it with --set {key}=VALUE"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"bad value for {key!r}{where}: {message} (got {shown(first['input'])})"


def keys(model: type[BaseModel], section: str = "") -> list[str]:
    """Return every dotted key of a model."""
    return [key for key, _ in fields(model, section)]


def fields(model: type[BaseModel], section: str = "") -> Iterable[tuple[str, Any]]:
    """Yield (dotted key, pydantic field) of a model and the models inside it.

    A model inside may have other defaults here than on its own: they are what its fields show.
    """
    prefix = f"{section}." if section else ""
    for name, info in model.model_fields.items():
        annotation = info.annotation
        inner = [
            a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, Options)
        ]
        if not inner:
            yield f"{prefix}{name}", info
            continue
        for key, inner_info in fields(inner[0], f"{prefix}{name}"):
            yield key, _with_default(inner_info, info.default, key.removeprefix(f"{prefix}{name}."))


def _with_default(info: Any, outer: Any, key: str) -> Any:
    """Return a field with the default that an enclosing model's default gives it, if it gives one."""
    for part in key.split("."):
        outer = getattr(outer, part, PydanticUndefined)
    if outer is PydanticUndefined:
        return info
    changed = copy.copy(info)
    changed.default = outer
    return changed
