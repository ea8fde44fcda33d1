"""Folders, packages of the wheel and entry points agree, and the built wheel works elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_folders_packages_and_entry_points_agree() -> None:
    folders = {
        path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    packages = {Path(path).name for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    points = PROJECT["project"]["entry-points"]["genplug"]
    assert packages == folders | {"genplug", "genplug_cli"}
    assert set(points.values()) == folders
    assert {f"genplug_{name}" for name in points} == folders


def test_exactly_one_faiss_is_installed_on_every_platform() -> None:
    markers = [
        line.partition(";")[2].strip()
        for line in PROJECT["project"]["dependencies"]
        if line.startswith("faiss")
    ]
    here, elsewhere = markers
    assert here == "sys_platform == 'linux' and platform_machine == 'x86_64'"
    assert elsewhere == "sys_platform != 'linux' or platform_machine != 'x86_64'"


@pytest.mark.slow
def test_the_wheel_lists_its_plugins_in_a_new_environment(tmp_path: Path) -> None:
    """Dependencies are borrowed from this environment; genplug itself comes from the wheel alone."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for shipped in (
        "genplug/registry.toml",
        "genplug/py.typed",
        "genplug_digits/digits.npz",
        "genplug_digits/ATTRIBUTION.md",
    ):
        assert shipped in names
    scaffold = {f"genplug_cli/scaffold/{path.name}" for path in (ROOT / "cli/genplug_cli/scaffold").iterdir()}
    assert scaffold <= set(names)
    assert not [name for name in names if name.startswith(("core/", "cli/", "plugins/", "tests/"))]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True, capture_output=True
    )
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    listing = (
        f"import sys, runpy, genplug; sys.path += {borrowed!r}; sys.argv = ['genplug', 'plugins', '--json']; "
        "assert 'env' in genplug.__file__; runpy.run_module('genplug', run_name='__main__')"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [python, "-I", "-c", listing],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    text = json.dumps(listed)
    for name in ("edm2", "heun", "ddo", "frechet", "irs", "digits", "euclidean", "pixels", "edm2.img512-xxl"):
        assert f'"{name}"' in text
