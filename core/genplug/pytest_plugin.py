"""What pytest loads wherever genplug is installed: readable failures of the kit, and a run to test with.

It imports nothing of genplug until a test asks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from genplug.runtime import Run

pytest.register_assert_rewrite("genplug.testing")


@pytest.fixture
def genplug_run(tmp_path: Path) -> Run:
    """Return a `genplug.runtime.Run` on the CPU that keeps its stages in a temporary directory."""
    from genplug.testing.workplace import make_run

    return make_run(tmp_path / "genplug-run")
