"""Plugins that misbehave, among a hundred good ones: each is named with its package and reason, alone."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

GOOD = 100
GOOD_CODE = """
import genplug

@genplug.hookimpl
def register_generators():
    return [genplug.GeneratorSpec(name="{name}", summary="good", config="{module}_config:Good")]
"""
CONFIG = """
from genplug.config import GeneratorConfig

class Good(GeneratorConfig):
    def provides(self):
        return frozenset()

    def build(self, run):
        raise NotImplementedError
"""
HEAD = "import genplug\nfrom genplug import GeneratorSpec, hookimpl\n"


def generators(body: str, arguments: str = "") -> str:
    """A plugin with one hook."""
    return f"{HEAD}@hookimpl\ndef register_generators({arguments}):\n    {body}\n"


def spec(words: str) -> str:
    return generators(f"return [GeneratorSpec({words})]")


OTHER_VERSION = "written for another version of genplug"
BAD = {
    "import-error": ("raise ImportError('libmissing is not installed')", "ImportError: libmissing"),
    "syntax-error": ("def", "SyntaxError"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "odd-exception": ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
    "silent-exception": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
        "Mute: its message cannot be told",
    ),
    "raising-hook": (generators("raise RuntimeError('no')"), "register_generators: RuntimeError: no"),
    "none": (generators("return None"), "register_generators: TypeError"),
    "garbage": (generators("return ['edm2']"), "returned 'edm2', which is not a spec of this hook"),
    "midway": (
        generators("yield GeneratorSpec(name='half', summary='', config=''); raise OSError('gone')"),
        "register_generators: OSError: gone",
    ),
    "wrong-name-type": (spec("name=3, summary='', config='a:B'"), "GeneratorSpec 3: name is 3"),
    "wrong-name": (spec("name='A b', summary='', config='a:B'"), "names are lower-case letters"),
    "wrong-words": (
        spec("name='w', summary='', config='a:B', provides='denoiser'"),
        "GeneratorSpec 'w': provides is 'denoiser'",
    ),
    "wrong-modality": (
        spec("name='w', summary='', config='a:B', modality='sound'"),
        "GeneratorSpec 'w': modality is 'sound'",
    ),
    "unknown-hook": (
        f"{HEAD}@hookimpl\ndef register_models(): return []",
        f"implements the unknown hook 'register_models': {OTHER_VERSION}",
    ),
    "other-arguments": (generators("return []", "registry"), "'registry'} are declared in the hookimpl"),
    "old-keyword": (spec("name='o', summary='', config='a:B', tags=()"), OTHER_VERSION),
    "missing-keyword": (spec("name='o', summary=''"), OTHER_VERSION),
    "bad-preset": (
        f"{HEAD}@hookimpl\ndef register_presets(): return [genplug.Preset(name='a.b', values=3)]",
        "Preset 'a.b': values is 3",
    ),
}
NOTED = {
    "slow": ("import time; time.sleep(2)\n" + generators("return []"), "s to import when listed"),
    "heavy": ("import torch\n" + generators("return []"), "imports torch when listed"),
}
LOUD = "print('hello from a plugin')\n" + generators("print('again'); return []")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    seconds: float  # of CPU


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred good packages and every bad one, as pip leaves them."""
    folder = tmp_path_factory.mktemp("site")
    for number in range(GOOD):
        module = f"genplug_good_{number:03}"
        install(folder, module, GOOD_CODE.format(name=f"good-{number:03}", module=module))
        (folder / f"{module}_config.py").write_text(CONFIG)
    for name, (code, _) in {**BAD, **NOTED, "loud": (LOUD, "")}.items():
        install(folder, f"genplug_{name.replace('-', '_')}", code)
    install(folder, "genplug_gone", None)
    for module in ("genplug_twin_a", "genplug_twin_b"):
        install(folder, module, GOOD_CODE.format(name="twin", module=module))
    (install(folder, "genplug_nameless", GOOD_CODE.format(name="nameless", module="x")) / "METADATA").unlink()
    return folder


def install(folder: Path, module: str, code: str | None) -> Path:
    info = folder / f"{module}-1.5.dist-info"
    info.mkdir()
    name = module.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[genplug]\n{name.removeprefix('genplug-')} = {module}\n")
    if code is not None:
        (folder / f"{module}.py").write_text(textwrap.dedent(code))
    return info


def genplug(site: Path, *arguments: str) -> Outcome:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "genplug", *arguments],
        env=environment, cwd=site, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(done.returncode, done.stdout, done.stderr, seconds)


@pytest.fixture(scope="module")
def listing(site: Path) -> Outcome:
    return genplug(site, "plugins", "--json")


def test_listing_works_and_has_every_good_plugin(listing: Outcome) -> None:
    assert (listing.code, "Traceback" in listing.err) == (0, False)
    names = {component["name"] for component in json.loads(listing.out)["components"]}
    assert {f"good-{number:03}" for number in range(GOOD)} | {"edm2", "ddo", "nameless"} <= names
    assert not {"half", "twin", "w", "o"} & names


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plugin_is_named_with_package_and_reason(listing: Outcome, name: str) -> None:
    found = [item for item in json.loads(listing.out)["broken"] if item["package"] == f"genplug-{name}"]
    assert [item["version"] for item in found] == ["1.5"]
    assert BAD[name][1] in found[0]["error"]


@pytest.mark.parametrize("name", NOTED)
def test_what_slows_every_command_is_noted(listing: Outcome, name: str) -> None:
    (note,) = [item for item in json.loads(listing.out)["notes"] if item["package"] == f"genplug-{name}"]
    assert NOTED[name][1] in note["note"]


def test_a_missing_module_and_a_clash_are_told(listing: Outcome) -> None:
    listed = json.loads(listing.out)
    errors = {item["package"]: item["error"] for item in listed["broken"]}
    assert "ModuleNotFoundError" in errors["genplug-gone"]
    (clash,) = listed["clashes"]
    assert clash == {
        "kind": "generator",
        "name": "twin",
        "packages": ["genplug-twin-a 1.5", "genplug-twin-b 1.5"],
    }


def test_what_plugins_print_goes_to_stderr(listing: Outcome) -> None:
    assert "hello" not in listing.out
    assert {"hello from a plugin", "again"} <= set(listing.err.splitlines())


def test_good_parts_run_untouched(site: Path) -> None:
    for generator in ("edm2", "good-050"):
        planned = genplug(site, "run", "-g", generator, "-o", "none", "--plan", "--json")
        assert planned.code == 0, planned.err
        assert json.loads(planned.out)["generator"]["name"] == generator


def test_a_hundred_good_plugins_cost_little(tmp_path: Path) -> None:
    """CPU time, which a loaded machine stretches by a factor, not by ten."""
    (tmp_path / "none").mkdir()
    for number in range(GOOD):
        module = f"genplug_good_{number:03}"
        install(tmp_path, module, GOOD_CODE.format(name=f"good-{number:03}", module=module))
    alone, among = (
        min(genplug(folder, "plugins").seconds for _ in range(3)) for folder in (tmp_path / "none", tmp_path)
    )
    print(f"listing: {alone:.2f} s of CPU without, {among:.2f} s with {GOOD} more plugins")
    assert among - alone < 1.0
