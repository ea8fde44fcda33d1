"""What every component promises: cheap to list, and options with defaults, descriptions and bounds."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import pytest

from genplug.config import Config, fields, nest, validate
from genplug.errors import ConfigError
from genplug.parts import Part
from genplug.registry import Entry
from genplug.runtime import Run
from genplug.testing.workplace import entry_of, make_run, resolve_part

#: Modules that a listing must not import: they cost more than the listing itself.
HEAVY = ("torch", "torchvision", "timm", "accelerate", "faiss", "numpy", "scipy", "diffusers", "transformers")
HUGE = 10**30


class ComponentSuite:
    """Promises of any component. Subclass the suite of its kind and set `name`.

    `options` are configuration values on top of the spec's `tiny` ones (`weights` and `preset`
    too, for generators). Where they depend on files, override the fixture `given` instead.
    """

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def given(self) -> Mapping[str, Any]:
        """Return the options to test with."""
        return self.options

    @pytest.fixture
    def entry(self) -> Entry:
        """Return the installed component."""
        return entry_of(self.kind, self.name)

    @pytest.fixture
    def part(self, given: Mapping[str, Any]) -> Part:
        """Return the component with its validated configuration."""
        return resolve_part(self.kind, self.name, given)

    @pytest.fixture
    def run(self, tmp_path: Path) -> Run:
        """Return a run of small batches on the CPU."""
        return make_run(tmp_path / "run")

    def test_spec(self, entry: Entry) -> None:
        """It has a name in lower case with hyphens and a summary of one line."""
        spec = entry.spec
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", spec.name), f"the name is {spec.name!r}"
        assert spec.summary, "it has no summary"
        assert "\n" not in spec.summary, f"the summary is {spec.summary!r}"

    def test_listing_is_light(self, entry: Entry) -> None:
        """Its specs and options can be listed without importing torch or anything as heavy."""
        module = entry.spec.config.partition(":")[0]
        code = f"import sys, {module}\nprint(*sorted(set({HEAVY!r}) & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, f"{module} cannot be imported: {done.stderr.strip()}"
        assert not done.stdout.strip(), f"{module} imports {done.stdout.strip()}"

    def test_options_are_described(self, entry: Entry) -> None:
        """Every option has a description."""
        silent = [key for key, info in fields(entry.config_model()) if not info.description]
        assert not silent, f"no description: {', '.join(silent)}"

    def test_unknown_options_are_refused(self, part: Part) -> None:
        """An option that it does not have is refused by name."""
        with pytest.raises(ConfigError, match="no-such-option"):
            _validated(part, {"no-such-option": 1})

    def test_numbers_are_bounded(self, part: Part) -> None:
        """Every whole number has a bound, and no number may be NaN."""
        loose = [key for key, info in fields(type(part.config)) if not _bounded(part, key, info)]
        assert not loose, f"without a bound, or NaN is accepted: {', '.join(loose)}"

    def test_configuration_survives_being_written(self, part: Part) -> None:
        """Its configuration as written to run.toml gives the same configuration again."""
        assert _validated(part, part.options()) == part.config


def _validated(part: Part, values: Mapping[str, Any]) -> Config:
    """Return the part's configuration with other values on top."""
    config: Config = validate(type(part.config), {**part.options(), **values}, part.name)
    return config


def _bounded(part: Part, key: str, info: Any) -> bool:
    """Return whether an option refuses what no number of its kind may be."""
    kinds = {info.annotation, *get_args(info.annotation)} if not _is_tuple(info.annotation) else set()
    if int in kinds:
        return _refuses(part, key, HUGE) or _refuses(part, key, -HUGE)
    return float not in kinds or _refuses(part, key, math.nan)


def _is_tuple(annotation: Any) -> bool:
    return get_origin(annotation) in (tuple, list, Literal)


def _refuses(part: Part, key: str, value: Any) -> bool:
    try:
        _validated(part, nest({key: value}) if "." not in key else _deep(part, key, value))
    except ConfigError:
        return True
    return False


def _deep(part: Part, key: str, value: Any) -> dict[str, Any]:
    """Return the part's section that holds a dotted key, with that key changed."""
    section, _, rest = key.partition(".")
    return {section: _changed(part.options().get(section, {}), rest, value)}


def _changed(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {**values, head: _changed(values.get(head, {}), rest, value) if rest else value}
