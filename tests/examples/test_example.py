"""The example package is the tutorial, works for a user who installs it, and leaves without a trace."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from genplug.testing import SUITES

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "genplug-example"
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()


def test_the_tutorial_quotes_the_package() -> None:
    quotes = re.findall(r'```\w+ title="(.+?)"\n(.*?)```', TUTORIAL, re.S)
    files = {
        str(file.relative_to(EXAMPLE)) for file in EXAMPLE.rglob("*.py") if "__pycache__" not in str(file)
    }
    assert {name for name, _ in quotes} == files | {"pyproject.toml", "genplug_example/registry.toml"}
    for name, text in quotes:
        assert text == (EXAMPLE / name).read_text(), f"docs/tutorial.md quotes {name} as it no longer is"


def test_every_suite_of_the_kit_is_documented() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    assert [suite.__name__ for suite in SUITES.values() if f"`{suite.__name__}`" not in page] == []


@pytest.mark.slow
def test_a_user_installs_uses_and_uninstalls_it(fresh: Any) -> None:
    before, commands_before = fresh.files(), fresh.genplug("--help").stdout
    source = fresh.copy_of(EXAMPLE)
    fresh.install(source)
    it_is_listed(fresh)
    the_tutorial_runs(fresh)
    a_chain_runs_on_two_processes(fresh)
    assert " passed" in fresh.call("-m", "pytest", "-q", "-p", "no:cacheprovider", str(source)).stdout
    fresh.call("-m", "pip", "uninstall", "-y", "-q", "genplug-example")
    assert {path for path in fresh.files() - before if "__pycache__" not in path.parts} == set()
    assert fresh.genplug("--help").stdout == commands_before
    nothing_knows_it(fresh)


def it_is_listed(fresh: Any) -> None:
    """Its components are there with package and version, its presets and its command too."""
    for kind, name in (("generator", "example-mlp"), ("evaluator", "example-ink")):
        entry = fresh.listed(kind)[name]
        assert (entry["package"], entry["version"]) == ("genplug-example", "0.1.0")
    assert {"example-mlp.digits", "ddo.example-mlp", "pretrain.example-mlp"} <= set(fresh.listed("preset"))
    assert "example-gallery" in fresh.genplug("--help").stdout


def the_tutorial_runs(fresh: Any) -> None:
    """Every command of the tutorial, in its order; what they claim is so."""
    blocks = re.findall(r"```console\n(.*?)```", TUTORIAL, re.S)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 10
    for command in commands:
        words = shlex.split(command)
        told = fresh.call(*words[1:] if words[0] == "python" else ("-m", *words)).stdout
        if words[0] == "python":
            assert told.strip() == "(1, 8, 8)"
        if words[:2] == ["genplug", "check"]:  # which ends with 1 where a promise is broken
            assert int(told.splitlines()[-1].partition(" kept")[0]) > 10
    metrics = json.loads((fresh.work / "runs/better/metrics.json").read_text())
    assert metrics["improved"]["fd-pixels"]["value"] < metrics["base"]["fd-pixels"]["value"]
    assert (fresh.work / "runs/better/report.html").stat().st_size > 10_000
    assert (fresh.work / "after.png").read_bytes() != (fresh.work / "before.png").read_bytes()


def a_chain_runs_on_two_processes(fresh: Any) -> None:
    """Training and DDO one after the other, as its capabilities allow."""
    small = ["run.samples=100", "run.blocks=1", "objective.1.train.steps=5", "objective.2.train.steps=4"]
    small += ["objective.2.rounds=1", "objective.2.pool=100", "objective.2.select_samples=50"]
    words = ["--generator", "example-mlp.digits", "--objective", "pretrain", "--objective", "ddo"]
    words += ["--evaluator", "example-ink", "--out", "runs/chain", "--processes", "2"]
    fresh.genplug("run", *words, *(word for value in small for word in ("--set", value)))
    assert set(json.loads((fresh.work / "runs/chain/metrics.json").read_text())["improved"]) == {"ink"}


def nothing_knows_it(fresh: Any) -> None:
    """Components, presets and command are gone; what was made with it says what is missing."""
    assert "example" not in fresh.genplug("plugins").stdout
    assert "no command named 'example-gallery'" in fresh.genplug("example-gallery", code=2).stderr
    told = fresh.genplug("sample", "runs/better:improved", "-o", "late.npz", "-n", "2", code=2).stderr
    assert told in TUTORIAL
    assert told.count("\n") == 1
    assert "was made with genplug-example 0.1.0, not installed here" in told
