"""What ends a command from outside: Ctrl-C, SIGTERM, and the end of the process that launched it."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import NoReturn

from genplug.errors import Stopped
from genplug_cli import workers

_POLL_SECONDS = 0.5
_arrived: list[int] = []


def prepare() -> None:
    """Decide what signals do in this process.

    One of several processes ends at once, since it may be waiting for the others where Python
    sees no signal; nothing is lost by that, and who launched it says what happened.
    """
    if not workers.launched():
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if workers.reports():
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # whoever insists ends it at once
    _arrived.append(number)
    raise Stopped(number)


def cause(error: BaseException) -> BaseException:
    """Return why a command failed: a signal, if one came, since C code may turn it into another error."""
    return Stopped(_arrived[0]) if _arrived else error


def _follow(launcher: int) -> None:
    """End this process soon after the one that launched it: nobody else would."""
    while os.getppid() == launcher:
        time.sleep(_POLL_SECONDS)
    os._exit(1)
