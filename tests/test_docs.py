"""The documentation cannot drift: hooks stand in it verbatim, and every command in it is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAIN_JOB = "genplug run --generator edm2 --objective ddo"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)


def commands() -> list[tuple[str, str]]:
    """Every genplug command of fenced bash blocks and of tables, page by page, in order."""
    found = []
    for page in PAGES:
        text = "\n".join(line for line in page.read_text().splitlines())
        for match in re.finditer(r"```bash\n(.*?)```|^\|.*?`(genplug [^`]+)` \|$", text, re.S | re.M):
            lines = (match.group(1) or match.group(2)).splitlines()
            found += [(page.name, line) for line in lines if line.startswith("genplug ")]
    return found


def test_commands_were_found() -> None:
    assert len(commands()) > 15
    assert MAIN_JOB in [command for _, command in commands()]


@pytest.mark.slow
def test_every_command_of_the_documentation_runs(tmp_path: Path) -> None:
    """In one working directory, in order, since later ones use what earlier ones make."""
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = set()
    for page, command in commands():
        if command in done:
            continue
        done.add(command)
        words = shlex.split(command)
        if words[:2] == ["genplug", "sample"] and (tmp_path / words[words.index("-o") + 1]).exists():
            words[words.index("-o") + 1] += "-again"
        result = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert result.returncode == 0, f"{page}: {command}\n{result.stderr[-2000:]}"
    assert (tmp_path / "runs/edm2-ddo/report.html").stat().st_size > 10_000


def test_each_hook_is_documented_verbatim() -> None:
    source = (ROOT / "core/genplug/hookspecs.py").read_text()
    signatures = re.findall(r"^def register_\w+\(.*?\) -> [^:]+:", source, re.M)
    assert len(signatures) == 10
    documented = (ROOT / "docs/plugins.md").read_text()
    assert [s for s in signatures if s not in documented] == []


def test_each_setting_of_a_run_is_documented() -> None:
    from genplug.config import keys
    from genplug.settings import RunSettings

    page = (ROOT / "docs/runs.md").read_text()
    assert [key for key in keys(RunSettings, "run") if f"`{key}`" not in page] == []


def test_the_plugin_of_the_readme_works(tmp_path: Path) -> None:
    code = next(block for block in blocks(ROOT / "README.md", "python") if "register_evaluators" in block)
    project = next(block for block in blocks(ROOT / "README.md", "toml") if "entry-points" in block)
    assert "genplug_brightness" in project
    (tmp_path / "genplug_brightness.py").write_text(code)
    info = tmp_path / "genplug_brightness-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: genplug-brightness\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[genplug]\nbrightness = genplug_brightness\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}
    command = [
        sys.executable,
        "-m",
        "genplug",
        "evaluate",
        "digits:held-out",
        "digits:train",
        "--evaluator",
        "brightness",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "brightness" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", ["python.md", "evaluation.md"])
def test_the_python_of_the_documentation_runs(tmp_path: Path, page: str) -> None:
    (script,) = blocks(ROOT / "docs" / page, "python")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
