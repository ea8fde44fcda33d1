"""Errors a user meets: one line that says what was asked, what is missing and what would work.

Anything that a user can cause raises `GenplugError` or a subclass. The command line prints
it as one line on stderr and exits with code 2; a traceback always means a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 200  # characters of a name that are compared with known ones


class GenplugError(Exception):
    """An expected failure whose text is shown to the user as it is."""


class UnknownNameError(GenplugError):
    """A component, preset or key that does not exist."""


class ConfigError(GenplugError):
    """A configuration value that is unknown, missing or out of bounds."""


class CapabilityError(GenplugError):
    """A component that cannot do what another one needs of it."""


class DataError(GenplugError):
    """Sample sets that are missing, empty, unreadable or do not fit."""


class WeightsError(GenplugError):
    """Weights that are missing, truncated or do not fit their network."""


class RunDirectoryError(GenplugError):
    """A run directory that is locked, holds another run or is not a run."""


class NonFiniteError(GenplugError):
    """A loss or a sample that became NaN or infinite."""


class OutOfMemoryError(GenplugError):
    """Work that does not fit in memory, however small its batches are made."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; no KeyboardInterrupt, which typer ends in its own way wherever it sees it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number  # as shells count


def shown(value: object, room: int = 200) -> str:
    """Return a value as a user would write it in Python, cut in the middle if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; nesting without end
        text = f"a {type(value).__name__}"
    return text if len(text) <= room else f"{text[: room - 40]}...{text[-37:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest known name, else an empty string."""
    match = difflib.get_close_matches(name[:_LONGEST], list(known), n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Describe an unknown name: what was asked, the nearest match, what there is."""
    names = sorted(known)
    listing = ", ".join(names) if names else "none"
    return UnknownNameError(f"no {kind} named {shown(name)}{nearest(name, names)} (installed: {listing})")
