"""How a run speaks: progress and messages for people, events for the run's own record.

Core and plugins call `run.log`; what is shown, and where, is up to whoever made the run (the
command line shows rich bars on stderr, Python users see nothing unless they pass a log).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, n: int = 1, note: str = "") -> None:
        """Add n finished units; `note` is a short text beside the bar, such as a loss."""


class Log(Protocol):
    """What a run can say."""

    def info(self, text: str) -> None:
        """Say something worth knowing, one line."""

    def warn(self, text: str) -> None:
        """Say something that the user should look at, one line."""

    def progress(self, label: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Advance]:
        """Return a context manager that shows progress and yields an `Advance`."""


class Silent:
    """A log that says nothing."""

    def info(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def progress(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """Show nothing."""
        yield lambda n=1, note="": None


class Heard:
    """A log that keeps the warnings it passes on."""

    def __init__(self, log: Log) -> None:
        self._log, self.warnings = log, list[str]()

    def info(self, text: str) -> None:
        """Pass it on."""
        self._log.info(text)

    def warn(self, text: str) -> None:
        """Keep a warning and pass it on."""
        self.warnings.append(text)
        self._log.warn(text)

    def progress(self, label: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Advance]:
        """Pass it on."""
        return self._log.progress(label, total, unit, done)
