"""How a command ends when it fails: one line on stderr and an exit code.

What a user or the machine causes is one line. Anything else is a bug and keeps its traceback;
GENPLUG_TRACEBACK=1 shows the traceback of expected failures too.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Any

from genplug.errors import GenplugError, Stopped
from genplug.memory import is_out_of_memory
from genplug_cli import workers

EXPECTED = 2
BUG = 1
_RESUMABLE = ("run", "sample", "fetch")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def report(error: BaseException, command: str = "") -> int:
    """Say what went wrong in a command and return the exit code."""
    if isinstance(error, Stopped):
        _say_interrupted(command)
        return error.exit_code
    line = explain(error)
    told = [f"Error: {line}"] if line is not None else []
    if line is None or os.environ.get("GENPLUG_TRACEBACK") == "1":
        told.insert(0, "".join(traceback.format_exception(error)).rstrip())
    _say("\n".join(told), line is not None)
    return BUG if line is None else EXPECTED


def explain(error: BaseException) -> str | None:
    """Return an expected failure as one line; None if it is a bug."""
    if isinstance(error, GenplugError):
        return _one_line(str(error))
    if hasattr(error, "format_message"):  # click's usage errors; typer brings its own copy of click
        return _usage(error)
    if reason := _full(error):
        name = getattr(error, "filename", None)
        return f"{reason}{f' ({name})' if name else ''}; make room and repeat the command"
    if is_out_of_memory(error):
        return "out of memory; lower the batch size (--set run.batch_size=N, --batch N)"
    return None


def _usage(error: Any) -> str:
    """Return a usage error with the command whose help explains it."""
    context = getattr(error, "ctx", None)
    text = _one_line(error.format_message()).rstrip(".")
    text = text[:1].lower() + text[1:]
    return f"{text}; see '{context.command_path} --help'" if context is not None else text


def _full(error: BaseException) -> str:
    """Tell a full disk, quota or file: Python's error, or that of a library in another language."""
    number = getattr(error, "errno", None)
    told = (os.strerror(full) for full in _FULL if number == full or os.strerror(full) in str(error))
    return next(told, "").lower()


def _one_line(text: str) -> str:
    """Return a text on one line; what a terminal would not print, or obey, is shown as an escape."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def _say_interrupted(command: str) -> None:
    resume = "; the same command continues where it stopped" if command in _RESUMABLE else ""
    if workers.is_main() and not workers.reports():
        print(f"Interrupted{resume}", file=sys.stderr)


def _say(text: str, expected: bool) -> None:
    """Print a failure, or hand it to the process that launched this one.

    A mistake that every process finds before work starts is told by the main one alone.
    """
    if workers.reports():
        workers.hand_over(text, expected)
    elif workers.is_main():
        print(text, file=sys.stderr)
    elif not expected or workers.joined():
        print(f"process {workers.rank()}: {text}", file=sys.stderr)
