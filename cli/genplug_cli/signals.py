"""What ends a command from outside: Ctrl-C, SIGTERM, and the end of the process that launched it."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import NoReturn

from genplug_cli import workers

_POLL_SECONDS = 0.5


class Terminated(KeyboardInterrupt):
    """SIGTERM: the command ends as by Ctrl-C, with another exit code."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of an interruption, as shells count: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def prepare() -> None:
    """Decide what signals do in this process.

    One of several processes ends at once, since it may be waiting for the others where Python
    sees no signal; nothing is lost by that, and who launched it says what happened.
    """
    if not workers.launched():
        signal.signal(signal.SIGTERM, _terminate)
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if workers.reports():
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break the tidying up
    raise Terminated


def _follow(launcher: int) -> None:
    """End this process soon after the one that launched it: nobody else would."""
    while os.getppid() == launcher:
        time.sleep(_POLL_SECONDS)
    os._exit(1)
