"""`genplug new` writes a package of any kind that works as it is, and refuses what could not work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from genplug_cli.main import execute
from genplug_cli.new import EXAMPLES, LONGEST


def name_of(kind: str) -> str:
    """Return a name as long as names may be, so that lines are too."""
    return f"my-{kind}-".ljust(LONGEST, "x")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a package of every kind."""
    root = tmp_path_factory.mktemp("new")
    made = {kind: root / kind for kind in EXAMPLES}
    for kind, folder in made.items():
        assert execute(["new", name_of(kind), "--kind", kind, "--out", str(folder)]) == 0
    return made


@pytest.mark.slow
def test_the_tests_of_every_kind_pass_at_once(packages, fresh) -> None:
    fresh.install(*packages.values())
    done = fresh.call("-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, packages.values()))
    assert "failed" not in done.stdout
    for kind in EXAMPLES:
        entry = fresh.listed(kind)[name_of(kind)]
        assert (entry["package"], entry["version"]) == (f"genplug-{name_of(kind)}", "0.1.0")


def test_what_it_writes_is_clean(packages) -> None:
    for words in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, *map(str, packages.values())],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_it_says_what_comes_next(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute(["new", "my-score", "--kind", "evaluator"]) == 0
    first, *commands = capsys.readouterr().out.splitlines()
    assert first.startswith("genplug-my-score: evaluator 'my-score'")
    assert [c.strip() for c in commands] == [
        "pip install -e genplug-my-score",
        "pytest genplug-my-score",
        "genplug check my-score",
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["My_Score", "--kind", "evaluator"], "lower case with hyphens"),
        (["3d", "--kind", "evaluator"], "lower case with hyphens"),
        (["../up", "--kind", "evaluator"], "lower case with hyphens"),
        (["x" * (LONGEST + 1), "--kind", "evaluator"], f"at most {LONGEST} characters"),
        (["class", "--kind", "evaluator"], "is a word of Python"),
        (["genplug-thing", "--kind", "evaluator"], "has the prefix genplug"),
        (["frechet", "--kind", "evaluator"], "evaluator 'frechet' is installed already, from genplug"),
        (["cli", "--kind", "evaluator"], "'genplug_cli' is installed already"),
        (["mine", "--kind", "evaluater"], "did you mean 'evaluator'?"),
        (["mine", "--kind", "evaluator", "--out", "there"], "there exists; name another folder"),
    ],
)
def test_what_could_not_work_is_refused_and_nothing_written(
    words, reason, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert execute(["new", *words]) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert told.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_name_that_python_knows_makes_a_class_all_the_same(tmp_path) -> None:
    for name in ("none", "score", "index", "evaluator"):
        assert execute(["new", name, "--kind", "evaluator", "--out", str(tmp_path / name)]) == 0
        for file in (tmp_path / name).rglob("*.py"):
            compile(file.read_text(), str(file), "exec")


def test_it_imports_nothing_heavy(tmp_path) -> None:
    code = (
        "import sys; from genplug_cli.main import execute; "
        "code = execute(['new', 'light', '--kind', 'sampler']); sys.exit(code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == 0
