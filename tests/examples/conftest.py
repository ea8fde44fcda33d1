"""A user's fresh environment, into which packages are installed with pip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CACHES = shutil.ignore_patterns("__pycache__", ".*_cache", "runs", "dist", "*.egg-info")


@dataclass(frozen=True)
class Environment:
    """A virtual environment with genplug in it, and a working directory."""

    root: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.root / "env" / "bin" / "python"

    @property
    def work(self) -> Path:
        """Where commands are run."""
        return self.root / "work"

    def call(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `python WORDS` as a user would and check the exit code."""
        own = {"GENPLUG_CACHE": str(self.root / "cache"), "XDG_CONFIG_HOME": str(self.root / "config")}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
        done = subprocess.run(
            [str(self.python), *words],
            cwd=self.work,
            env=kept | own | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            timeout=540,
        )
        assert done.returncode == code, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def genplug(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `genplug WORDS`."""
        return self.call("-m", "genplug", *words, code=code)

    def listed(self, kind: str) -> dict[str, Any]:
        """Return what `genplug plugins` lists of one kind, by name."""
        found = json.loads(self.genplug("plugins", "--kind", kind, "--json").stdout)
        return {item["name"]: item for item in found["presets" if kind == "preset" else "components"]}

    def install(self, *folders: Path) -> None:
        """Install packages without download: dependencies and the build backend are there already."""
        self.call(
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            *map(str, folders),
        )

    def copy_of(self, folder: Path) -> Path:
        """Return a copy of a package, so that building and testing leave the original alone."""
        return Path(shutil.copytree(folder, self.root / folder.name, ignore=CACHES))

    def files(self) -> set[Path]:
        """Return every installed file."""
        return {path for path in (self.root / "env").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return a new environment that borrows genplug and what it depends on from this one."""
    environment = Environment(tmp_path_factory.mktemp("user"))
    environment.work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment.root / "env")], check=True)
    borrowed = sysconfig.get_paths()["purelib"]
    site = next((environment.root / "env").glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(f"import site; site.addsitedir({borrowed!r})\n")
    return environment
