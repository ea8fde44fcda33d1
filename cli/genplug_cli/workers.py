"""What a process knows about the others that it works with, without importing torch."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPORTS = "GENPLUG_LAUNCH_REPORTS"


@dataclass(frozen=True)
class Failure:
    """What a worker handed to the process that launched it."""

    text: str
    expected: bool
    when: float


def rank() -> int:
    """Return this process's number, as torchrun and accelerate set it; 0 for a single one."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def is_main() -> bool:
    """True in the one process that speaks."""
    return rank() == 0


def launched() -> bool:
    """True in a process that torchrun or accelerate started."""
    return "RANK" in os.environ or "LOCAL_RANK" in os.environ


def joined() -> bool:
    """True once this process works together with others."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and bool(distributed.is_available() and distributed.is_initialized())


def reports() -> Path | None:
    """Return where workers of `--processes` leave their failures; None elsewhere."""
    return Path(os.environ[REPORTS]) if REPORTS in os.environ and launched() else None


def hand_over(text: str, expected: bool) -> None:
    """Leave a failure to the launching process, which tells the one that matters."""
    directory = reports()
    assert directory is not None
    record = {"text": text, "expected": expected, "when": time.time()}
    (directory / f"{rank()}-{time.monotonic_ns()}.json").write_text(json.dumps(record), encoding="utf-8")


def collect(directory: Path) -> list[Failure]:
    """Return what workers left: mistakes of the user first, then by time."""
    found = [Failure(**json.loads(path.read_text(encoding="utf-8"))) for path in directory.glob("*.json")]
    return sorted(found, key=lambda failure: (not failure.expected, failure.when))
