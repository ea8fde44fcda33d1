"""`--processes N`: the same command line once per process, through torchrun.

torchrun is called within this process, so that its own log and summary stay silent: a failure is
told by the worker that met it, in one line.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from genplug.errors import GenplugError
from genplug_cli import workers


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `genplug ARGUMENTS` on N processes of this machine and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="genplug-") as directory:
        os.environ[workers.REPORTS] = directory
        try:
            return _torchrun(processes, arguments)
        except Exception as error:
            if type(error).__name__ == "SignalException":  # torchrun's name for SIGINT and SIGTERM
                raise KeyboardInterrupt from None
            if type(error).__name__ != "ChildFailedError":
                raise
            return _tell(error, Path(directory))
        finally:
            del os.environ[workers.REPORTS]


def _torchrun(processes: int, arguments: Sequence[str]) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch.distributed.run import parse_args, run

    for name in ("torch.distributed", "torch.distributed.run", "torch.distributed.elastic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    launcher = ["--standalone", "--nproc_per_node", str(processes), "-m", "genplug", *arguments]
    run(parse_args(launcher))  # type: ignore[no-untyped-call]
    return 0


def _tell(error: Exception, directory: Path) -> int:
    """Print the failure that explains the others: a user's mistake, else the first traceback."""
    found = workers.collect(directory)
    if not found:
        raise GenplugError(_death(error)) from None
    told = found[-1] if os.environ.get("GENPLUG_TRACEBACK") == "1" and found[0].expected else found[0]
    print(told.text, file=sys.stderr)
    return 2 if told.expected else 1


def _death(error: Exception) -> str:
    """Say which process ended without a word, and how."""
    number, failure = error.get_first_failure()  # type: ignore[attr-defined]
    code = failure.exitcode
    how = f"was killed by {failure.signal_name()}" if code < 0 else f"ended with exit code {code}"
    return f"process {number} {how}; the same command continues where it stopped"
