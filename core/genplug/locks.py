"""One writer for a directory, by a lock that the operating system releases however a process ends."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from genplug.errors import RunDirectoryError

if TYPE_CHECKING:
    from genplug.runtime import Run

LOCK = ".lock"


@contextmanager
def claimed(run: Run, directory: Path, prepare: Callable[[], None], remedy: str) -> Iterator[None]:
    """Hold a directory for this run alone.

    The main process takes the lock and prepares the directory; the others wait until it has.
    """
    with ExitStack() as stack:
        if run.is_main:
            stack.enter_context(locked(directory, remedy))
            prepare()
        run.wait()
        yield


@contextmanager
def locked(directory: Path, remedy: str) -> Iterator[None]:
    """Hold a directory, made if it is not there, for this process alone."""
    lock = FileLock(directory / LOCK)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunDirectoryError(f"{directory} is in use by another process; {remedy}") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise RunDirectoryError(
            f"{directory} cannot be written ({error.strerror or error}); choose another place"
        ) from None
    try:
        yield
    finally:
        lock.release()
