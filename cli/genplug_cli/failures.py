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

from genplug.errors import GenplugError
from genplug_cli import workers

EXPECTED = 2
BUG = 1
INTERRUPTED = 130
_RESUMABLE = ("run", "sample")
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


class Interrupted(Exception):
    """Ctrl-C during a command."""

    def __init__(self, command: str) -> None:
        super().__init__(command)
        self.command = command


def report(error: BaseException) -> int:
    """Say what went wrong and return the exit code."""
    if isinstance(error, KeyboardInterrupt | Interrupted):
        _say_interrupted(error)
        return INTERRUPTED
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
    if _is_full_disk(error):
        name = getattr(error, "filename", None)
        return f"no space left on device{f' ({name})' if name else ''}; make room and repeat the command"
    if _is_out_of_memory(error):
        return "out of memory; lower the batch size (--set run.batch_size=N, --batch N)"
    return None


def _usage(error: Any) -> str:
    """Return a usage error with the command whose help explains it."""
    context = getattr(error, "ctx", None)
    text = _one_line(error.format_message()).rstrip(".")
    text = text[:1].lower() + text[1:]
    return f"{text}; see '{context.command_path} --help'" if context is not None else text


def _is_full_disk(error: BaseException) -> bool:
    """Tell a full disk: Python's error, or that of a library written in another language."""
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY_WORDS)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _say_interrupted(error: BaseException) -> None:
    command = error.command if isinstance(error, Interrupted) else ""
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
