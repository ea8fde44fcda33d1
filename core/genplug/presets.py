"""The data half of the registry: defaults of `run` and presets, read from TOML files of one schema.

Order, later wins: the `registry.toml` of genplug, those of plugins, the user's, the working
directory's. A bad entry names its file and line and disables itself alone.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from genplug.errors import ConfigError, unknown
from genplug.registry import Broken, Catalog, Package, one_line
from genplug.specs import Preset, Published


@dataclass
class Registry:
    """Presets by name and the defaults of `run`, each remembering its file."""

    presets: dict[str, Preset] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    def preset(self, name: str) -> Preset:
        """Return a preset, or raise with the nearest name."""
        if name not in self.presets:
            raise unknown("preset", name, self.presets)
        return self.presets[name]

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
    """Return the presets of a plugin's own registry file, for its `register_presets` hook."""
    result = read_registry(Path(path), Package("plugin", ""))
    if result.broken:
        raise ConfigError("; ".join(broken.error for broken in result.broken))
    return tuple(result.presets.values())


def read_registry(path: Path, package: Package) -> Registry:
    """Read one file; what is wrong in it goes to `broken`."""
    result = Registry()
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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
    elif section in ("generator", "objective"):
        if not (isinstance(value, dict) and set(value) <= {"preset"}):
            raise TypeError("expected preset = NAME")
    else:
        raise ValueError("unknown section (known: preset, run, dataset, generator, objective)")
    return value


def _preset(name: str, values: Mapping[str, Any], origin: str) -> Preset:
    """Check one entry of a registry file."""
    if not re.fullmatch(r"[a-z0-9-]+\.[a-z0-9.-]+", name):
        raise ValueError("a preset is named family.tag, in lower case")
    known = set(Preset.__dataclass_fields__) - {"name", "origin"}
    if extra := set(values) - known:
        raise unknown_key(sorted(extra)[0], known)
    checked = dict(values)
    for key, kind in {
        "values": dict,
        "recipes": dict,
        "sources": dict,
        "unset": list,
        "published": list,
    }.items():
        if not isinstance(checked.get(key, kind()), kind):
            raise TypeError(f"{key} must be a {kind.__name__}")
    for key in ("summary", "address", "sha256", "licence", "dataset"):
        if not isinstance(checked.get(key, ""), str):
            raise TypeError(f"{key} must be a string")
    checked["unset"] = tuple(checked.get("unset", ()))
    checked["published"] = tuple(Published(**score) for score in checked.get("published", ()))
    if checked.get("kind", "generator") not in ("generator", "objective"):
        raise ValueError("kind must be 'generator' or 'objective'")
    return Preset(name=name, origin=origin, **checked)


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
