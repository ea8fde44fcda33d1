"""Shared by all tests: the fakes are installed, caches are apart, two workers do not fight over threads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FAKES = str(Path(__file__).parent / "fakes")
sys.path.insert(0, FAKES)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [FAKES, os.environ.get("PYTHONPATH", "")]))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["GENPLUG_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"

import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test its own cache and no user configuration."""
    monkeypatch.setenv("GENPLUG_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def golden() -> Path:
    """The folder of golden files."""
    return Path(__file__).parent / "golden"
