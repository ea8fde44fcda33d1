"""A finished run repeats nothing. (Runs that are killed: `tests/processes`.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import genplug
from genplug.resolving import resolve


def test_a_finished_run_repeats_nothing(tmp_path: Path) -> None:
    """The second call restores every stage; nothing in it is newer than the end of the first."""

    def once() -> dict[str, Any]:
        resolved = resolve(
            generator="fake-points",
            objectives=["pretrain"],
            dataset="fake-rings",
            extractors=["fake-mean"],
            evaluators=["fake-gap"],
            sets=[("objective.train.steps", 3), ("objective.train.batch_size", 8), ("run.samples", 20)],
        )
        return genplug.run(resolved=resolved, out=tmp_path / "x").metrics

    first = once()
    made = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "x").rglob("*.*")
        if "stages" in path.parts or "samples" in path.parts
    }
    assert once() == first
    assert {path: path.stat().st_mtime_ns for path in made} == made
