"""The kit finds what is broken: a package with one component for each broken promise (`broken/`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = Path(__file__).parent / "broken"
CHECK_ALL = """
import json
from genplug.testing.checking import check
from genplug_broken import EXPECTED
found = {f"{kind} {name}": [vars(v) for v in check(kind, name)] for kind, name in EXPECTED}
print(json.dumps({"found": found, "expected": {f"{k} {n}": w for (k, n), w in EXPECTED.items()}}))
"""


def genplug(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return python("-m", "genplug", *arguments, path=path)


def python(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    places = filter(None, [str(path or ""), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_every_broken_promise_is_found() -> None:
    done = python("-c", CHECK_ALL, path=BROKEN)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for component, words in told["expected"].items():
        broken = [v["promise"] for v in told["found"][component] if v["outcome"] == "broken"]
        missed = [word for word in words if not any(word in promise for promise in broken)]
        assert not missed, f"{component}: {missed} not among {broken}"
    drifting = {v["promise"] for v in told["found"]["generator drifting"] if v["outcome"] == "broken"}
    for word in ("has a description", "refused by name", "has a bound"):
        assert any(word in promise for promise in drifting), word


def test_check_gives_a_verdict_per_promise() -> None:
    done = genplug("check", "euler", "--json")
    assert done.returncode == 0, done.stderr
    (component,) = json.loads(done.stdout)
    assert component["name"] == "euler"
    assert {promise["outcome"] for promise in component["promises"]} == {"kept"}
    assert len(component["promises"]) >= 12


def test_check_exits_with_one_for_a_broken_promise() -> None:
    done = genplug("check", "lazy", path=BROKEN)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "Its noise levels fall" in line]
    assert line.split()[0] == "broken"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "no component named 'nope'"),
        (["euler", "--kind", "nope"], "no kind named 'nope'"),
        (["files"], "'dataset.path' has no value; set it with --set dataset.path=VALUE"),
        (["euler", "--set", "generator.sampler.nope=1"], "unknown key 'sampler.nope'"),
        (["euler", "--set", "nope=1"], "options of 'euler' are generator.sampler.KEY"),
    ],
)
def test_what_cannot_be_checked_is_one_line(arguments: list[str], words: str) -> None:
    done = genplug("check", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_plugins_whole_test_is_a_subclass_with_a_name(tmp_path: Path) -> None:
    """In a plain pytest run of a stranger, with readable failures and the fixture `genplug_run`."""
    (tmp_path / "test_mine.py").write_text(
        "from genplug.testing import SamplerSuite\n\n"
        'class TestMine(SamplerSuite):\n    name = "euler"\n\n'
        "def test_run(genplug_run):\n    assert genplug_run.directory.is_dir()\n"
    )
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), path=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "13 passed" in done.stdout


def test_pytest_starts_without_torch(tmp_path: Path) -> None:
    """The plugin is loaded in every pytest run of an environment with genplug: it must cost nothing."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass")
    code = f"""
import sys, pytest
pytest.main(["-q", {str(tmp_path)!r}, "-p", "no:cacheprovider"])
print("genplug.pytest_plugin" in sys.modules, "torch" in sys.modules)
"""
    done = python("-c", code)
    assert "True False" in done.stdout, done.stdout + done.stderr
