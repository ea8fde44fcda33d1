"""Progress on stderr: moving bars on a terminal, a line now and then in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from genplug.log import Advance
from genplug_cli.terminal import warn

SECONDS_BETWEEN_LINES = 30.0


def rate_text(per_second: float | None, unit: str) -> str:
    """Return a rate as people read it: `12.5 samples/s`, or `3.2 s/step` where one takes longer."""
    if not per_second:
        return ""
    if per_second < 1:
        return f"{1 / per_second:.3g} s/{unit}"
    plural = f"{unit}es" if unit.endswith(("ch", "sh", "s", "x")) else f"{unit}s"
    return f"{per_second:,.0f} {plural}/s" if per_second >= 100 else f"{per_second:.3g} {plural}/s"


def time_text(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


class RateColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """Return the rate."""
        return Text(rate_text(task.finished_speed or task.speed, task.fields["unit"]), style="cyan")


class Bars:
    """The log on a terminal: one live display, a bar for each piece of work in progress."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None

    def info(self, text: str) -> None:
        """Print a line above the bars."""
        self._print(text)

    def warn(self, text: str) -> None:
        """Print a warning above the bars."""
        self._print(f"Warning: {text}", "yellow")

    @contextmanager
    def progress(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """Show a bar."""
        outer = self._progress
        bars = outer or self._start()
        task = bars.add_task(label, total=total, completed=done, unit=unit, note="")
        try:
            yield _mover(bars, task)
        finally:
            if outer is None:
                bars.stop()
                self._progress = None
            else:
                bars.remove_task(task)

    def _start(self) -> Progress:
        label, count, note = (
            "{task.description}",
            "{task.completed:.0f}/{task.total:.0f}",
            "{task.fields[note]}",
        )
        columns = (TextColumn(label, markup=False), BarColumn(24), TextColumn(count), RateColumn())
        more = (TimeRemainingColumn(compact=True), TextColumn(note, markup=False, style="dim"))
        self._progress = Progress(*columns, *more, console=self._console)
        self._progress.start()
        return self._progress

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)


def _mover(bars: Progress, task: TaskID) -> Advance:
    def advance(n: int = 1, note: str = "") -> None:
        if note:
            bars.update(task, advance=n, note=note)
        else:
            bars.update(task, advance=n)

    return advance


class Lines:
    """The log in a file or a pipe: a line at the end of each piece of work, and every half minute."""

    def info(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        warn(text)

    @contextmanager
    def progress(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """Print how far the work is."""
        yield _Reporter(label, total, unit, done)


class _Reporter:
    """Counts units and prints a line when one is due."""

    def __init__(self, label: str, total: int, unit: str, done: int) -> None:
        self.label, self.total, self.unit, self.first, self.done = label, total, unit, done, done
        self.started = self.told = time.monotonic()

    def __call__(self, n: int = 1, note: str = "") -> None:
        self.done += n
        now = time.monotonic()
        if self.done >= self.total or now - self.told >= SECONDS_BETWEEN_LINES:
            self.told = now
            print(self.line(now - self.started, note), file=sys.stderr, flush=True)

    def line(self, elapsed: float, note: str) -> str:
        """Return label, count, rate, time left (or taken) and note."""
        rate = (self.done - self.first) / elapsed if elapsed > 0 else 0.0
        left = self.total - self.done
        taken = f"took {time_text(elapsed)}" if elapsed >= 1 else ""
        when = f"{time_text(left / rate)} left" if left > 0 and rate > 0 else taken
        parts = [f"{self.done}/{self.total}", rate_text(rate, self.unit), when, note]
        return f"{self.label}: {', '.join(part for part in parts if part)}"
