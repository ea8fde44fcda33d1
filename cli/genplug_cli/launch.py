"""`--processes N`: the same command line once per process, through torchrun.

torchrun is called within this process, so that its own log and summary stay silent: a failure is
told by the worker that met it, in one line.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genplug.errors import GenplugError, Stopped
from genplug_cli import workers


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `genplug ARGUMENTS` on N processes of this machine and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="genplug-") as directory:
        os.environ[workers.REPORTS] = directory
        try:
            return _torchrun(processes, arguments)
        except Exception as error:
            if type(error).__name__ == "SignalException":  # torchrun's name for SIGINT and SIGTERM
                raise Stopped(error.sigval) from None  # type: ignore[attr-defined]
            if type(error).__name__ != "ChildFailedError":
                raise
            return tell(error, Path(directory))
        finally:
            del os.environ[workers.REPORTS]


def _torchrun(processes: int, arguments: Sequence[str]) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch.distributed.run import parse_args, run

    launcher = ["--standalone", "--nproc_per_node", str(processes), "-m", "genplug", *arguments]
    logging.disable(logging.CRITICAL)
    try:
        run(parse_args(launcher))
    finally:
        logging.disable(logging.NOTSET)
    return 0


def tell(error: Any, directory: Path) -> int:
    """Print the failure that explains the others.

    That is a user's mistake; else a process that was killed; else the first traceback, as those
    after it only say that the other process is gone.
    """
    found = workers.collect(directory)
    killed = _death(error)
    if killed is not None and not (found and found[0].expected):
        raise GenplugError(killed) from None
    if not found:
        number, failure = error.get_first_failure()
        raise GenplugError(
            f"process {number} ended with exit code {failure.exitcode} and said nothing"
        ) from None
    print(found[0].text, file=sys.stderr)
    return 2 if found[0].expected else 1


def _death(error: Any) -> str | None:
    """Say which process was killed; SIGTERM is how torchrun ends the others."""
    for number, failure in sorted(error.failures.items()):
        if failure.exitcode == -signal.SIGINT:  # Ctrl-C reached the workers before torchrun
            raise Stopped(signal.SIGINT)
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            name = signal.Signals(-failure.exitcode).name
            return f"process {number} was killed by {name}; the same command continues where it stopped"
    return None
