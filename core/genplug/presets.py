"""The data half of the registry: defaults of `run` and presets, read from TOML files of one schema.

Order, later wins: the `registry.toml` of genplug, those of plugins, the user's, the working
directory's. A bad entry names its file and line and disables itself alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from genplug import toml
from genplug.addresses import parse
from genplug.admission import check_presets
from genplug.errors import ConfigError, unknown
from genplug.registry import Broken, Catalog, Package, one_line
from genplug.specs import BadPreset, Preset, Published


@dataclass
class Registry:
    """Presets by name and the defaults of `run`, each remembering its file."""

    presets: dict[str, Preset] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    def preset(self, name: str) -> Preset:
        """Return a preset, or raise with the nearest name."""
        if name not in self.presets:
            family = [preset.name for preset in self.of(name.partition(".")[0])]
            raise unknown("preset", name, family or self.presets)
        return self.presets[name]

    def with_recorded(self, entries: Mapping[str, Any], origin: str) -> Registry:
        """Return this registry with presets that a run recorded and that have left it since."""
        gone = {name: values for name, values in entries.items() if name not in self.presets}
        try:
            found = {name: _preset(name, values, origin) for name, values in gone.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{origin}: bad preset in it: {one_line(error)}") from None
        return replace(self, presets={**found, **self.presets})

    def of(self, family: str) -> list[Preset]:
        """Return the presets of one component, by name."""
        return [self.presets[name] for name in sorted(self.presets) if self.presets[name].family == family]


def registry(catalog: Catalog) -> Registry:
    """Merge every source of data."""
    from genplug.config import merge

    result = Registry()
    own = read_registry(own_file(), Package("genplug", ""))
    sources = [own, *(Registry(presets={p.name: p for p in specs}) for _, specs in catalog.preset_sources)]
    sources += [read_registry(path, Package("user", "")) for path in user_files() if path.is_file()]
    for source in sources:
        result.presets.update(source.presets)
        result.defaults = merge(result.defaults, source.defaults)
        result.broken += source.broken
    return result


def own_file() -> Path:
    """Return genplug's registry: at the root of a checkout, or shipped in the package."""
    package = Path(str(resources.files("genplug")))
    checkout = package.parent.parent / "registry.toml"
    return checkout if checkout.is_file() else package / "registry.toml"


def user_files() -> list[Path]:
    """Return where users keep registries: their configuration folder and the working directory."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    here = Path.cwd() / "registry.toml"
    return [config / "genplug" / "registry.toml", *([here] if here.resolve() != own_file().resolve() else [])]


def presets_from(path: Path | str) -> tuple[Preset, ...]:
    """Return the presets of a plugin's own registry file, for its `register_presets` hook.

    A bad entry is returned as a `BadPreset`: `genplug plugins` lists it with file and line, the
    others can be used.
    """
    result = read_registry(Path(path), Package("plugin", ""))
    bad = (BadPreset(name=broken.plugin, problem=broken.error) for broken in result.broken)
    return (*result.presets.values(), *bad)


def read_registry(path: Path, package: Package) -> Registry:
    """Read one file; what is wrong in it goes to `broken`."""
    result = Registry()
    try:
        text = path.read_text(encoding="utf-8")
        data = toml.parse(text)
    except (OSError, ValueError) as error:
        result.broken.append(Broken(str(path), package, f"{path}: {one_line(error)}"))
        return result
    for section, values in data.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            name = ".".join(filter(None, (section, key)))
            try:
                if section == "preset":
                    result.presets[key] = _preset(key, value, str(path))
                else:
                    result.defaults.setdefault(section, {})[key] = _default(section, key, value)
            except (TypeError, ValueError, AttributeError, ConfigError) as error:
                where = f"{path}:{_line(text, section, key)}: {name}"
                result.broken.append(Broken(name, package, f"{where}: {one_line(error)}"))
    return result


def _default(section: str, key: str, value: Any) -> Any:
    """Check one default: of `run`, of `run` for one data set, or the preset of a component."""
    from genplug.config import validate
    from genplug.settings import RunSettings

    if section == "run" and key in ("generator", "dataset"):
        if not isinstance(value, str):
            raise TypeError("must be a name")
    elif section == "run":
        validate(RunSettings, {key: value}, "run")
    elif section == "dataset":
        validate(RunSettings, value, f"dataset.{key}")
    elif section == "evaluate":
        if key != "extractors" or not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise TypeError("expected extractors = [NAMES]")
    elif section in ("generator", "objective", "extractor"):
        if not (
            isinstance(value, dict) and set(value) <= {"preset"} and isinstance(value.get("preset", ""), str)
        ):
            raise TypeError("expected preset = NAME")
    else:
        raise ValueError(
            "unknown section (known: preset, run, evaluate, dataset, generator, objective, extractor)"
        )
    return value


KINDS = ("generator", "objective", "extractor")
FORMATS = ("safetensors", "nvlabs-pickle", "torch")
_TYPES: Mapping[type, tuple[str, ...]] = {
    dict: ("values", "recipes", "sources"),
    list: ("unset", "published"),
    str: ("summary", "address", "format", "part", "prefix", "sha256", "licence", "dataset", "kind"),
    int: ("bytes",),
}
_WORDS = {dict: "a table", list: "a list", str: "a string", int: "a number"}


def _preset(name: str, values: Mapping[str, Any], origin: str) -> Preset:
    """Check one entry of a registry file."""
    if not re.fullmatch(r"[a-z0-9-]+\.[a-z0-9.-]+", name):
        raise ValueError("a preset is named family.tag, in lower case")
    known = set(Preset.__dataclass_fields__) - {"name", "origin"}
    if extra := set(values) - known:
        raise unknown_key(sorted(extra)[0], known)
    for kind, keys in _TYPES.items():
        for key in keys:
            if key in values and type(values[key]) is not kind:
                raise TypeError(f"{key} must be {_WORDS[kind]}")
    _check_words(values)
    checked = dict(values)
    checked["unset"] = tuple(checked.get("unset", ()))
    checked["published"] = tuple(Published(**score) for score in checked.get("published", ()))
    preset = Preset(name=name, origin=origin, **checked)
    check_presets([preset])
    return preset


def _check_words(values: Mapping[str, Any]) -> None:
    """Refuse a kind, format, address or digest that nothing could be done with."""
    if values.get("kind", "generator") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    if values.get("format", FORMATS[0]) not in FORMATS:
        raise ValueError(f"unknown format {values['format']!r} (known: {', '.join(FORMATS)})")
    if "address" in values:
        parse(values["address"])
    if not re.fullmatch(r"[0-9a-f]{64}", values.get("sha256", "0" * 64)):
        raise ValueError("sha256 must be 64 hexadecimal digits in lower case")


def unknown_key(key: str, known: Iterable[str]) -> ValueError:
    """Describe an unknown key of a registry entry."""
    return ValueError(f"unknown key {key!r} (known: {', '.join(sorted(known))})")


def _line(text: str, section: str, key: str) -> int:
    """Return the line on which an entry starts: its own table, or its key in the section's table."""
    own, inside = re.compile(rf'{section}\."?{re.escape(key)}"?[.\]]'), ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            inside = stripped.strip("[] ")
            if own.match(stripped.strip("[ ")):
                return number
        elif inside == section and re.match(rf'"?{re.escape(key)}"?\s*=', stripped):
            return number
    return 1
