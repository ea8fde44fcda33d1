"""Batches that do not fit in memory: told from bugs, halved, and continued with the size that worked."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from genplug.errors import GenplugError, OutOfMemoryError

if TYPE_CHECKING:
    from torch import Tensor

    from genplug.runtime import Run

_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "status_alloc_failed",  # cuBLAS and cuDNN
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, whoever raised it."""
    if isinstance(error, GenplugError):
        return False  # told already
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def free() -> None:
    """Give memory that nothing uses any more back to the device."""
    import gc

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.accelerator.is_available():
        torch.accelerator.memory.empty_cache()


class Fitting:
    """The batch size of one piece of work: halved when a batch does not fit, then kept.

    `what` names the work in messages. With `whole`, rows of a batch depend on each other and it
    is never split; `whole` says why.
    """

    def __init__(self, run: Run, what: str, size: int, whole: str = "") -> None:
        self.run, self.what, self.asked, self.whole = run, what, size, whole
        self.size = self._told = size

    def rows(self, count: int, work: Callable[[int, int], Tensor]) -> Tensor:
        """Return `work(start, stop)` for all of `count` rows, joined; in pieces if they do not fit."""
        import torch

        pieces: list[Tensor] = []
        done = 0
        while done < count:
            stop = min(done + self.size, count)
            piece = self._attempt(work, done, stop)
            if piece is not None:
                pieces.append(piece)
                done = stop
                self._tell()
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _attempt(self, work: Callable[[int, int], Tensor], start: int, stop: int) -> Tensor | None:
        """Return the work's result, or None after halving the size."""
        try:
            return work(start, stop)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._halve(stop - start)
        free()  # here the exception, whose traceback holds the tensors, is gone
        return None

    def _halve(self, tried: int) -> None:
        remedy = "free memory, or make the samples or the network smaller"
        if tried == 1:
            raise OutOfMemoryError(
                f"out of memory: {self.what} does not fit with one sample; {remedy}"
            ) from None
        if self.whole:
            raise OutOfMemoryError(
                f"out of memory: {self.what} does not fit with a batch of {tried}, and {self.whole}; "
                "choose a smaller batch (--set run.batch_size=N, --batch N)"
            ) from None
        self.size = tried // 2

    def _tell(self) -> None:
        """Say once what size works."""
        if self.size < self._told:
            self._say(self.size)
            self._told = self.size

    def _say(self, size: int) -> None:
        self.run.log.warn(
            f"{self.what}: a batch of {self.asked} does not fit in memory; continued with {size}"
        )
        self.run.event("out-of-memory", work=self.what, batch=self.asked, continued_with=size)

    def settle(self) -> None:
        """Let the main process, which alone speaks, tell what the others had to halve; all must call it."""
        if self.run.accelerator.num_processes == 1:
            return
        from accelerate.utils import gather_object

        least = min(gather_object([self.size]))
        if self.run.is_main and least < self.size:
            self._say(least)
