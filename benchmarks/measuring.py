"""Measure pieces of work in child processes: CPU seconds, wall seconds, peak memory beyond the data.

    def ours(n: int) -> Callable[[], float]:      # a side: imports, data and warm-up happen here, unmeasured
        features = ...
        return lambda: score(features)            # this call is measured; its result must pickle

    costs = interleaved({"ours": (ours, 1000), "theirs": (theirs, 1000)}, rounds=5)
    print(table(costs, against="theirs"))

Each measurement has its own process, so that no side pays for or profits from another's memory and caches.
The sides take turns in each round, so that a busy machine slows all of them; ratios are formed within a round
and their median is reported. Settings that hold a linear algebra library back to another machine's kernels
are taken out of the children's environment: every side runs at full speed. Linux and macOS.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Side = tuple[Any, ...]  # (prepare, *arguments): `prepare` is a function of a module, the arguments pickle
HELD_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_DEBUG_CPU_TYPE", "OMP_NUM_THREADS")
Field = Literal["cpu_s", "wall_s", "peak_mb"]


@dataclass(frozen=True)
class Cost:
    """What a piece of work took. `peak_mb` is the resident memory beyond what was there at its start."""

    cpu_s: float  # user and system seconds of the process and its joined children
    wall_s: float
    peak_mb: float
    result: Any


def in_child(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> Cost:
    """Prepare in a fresh process and measure there the call of what `prepare` returns."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with _full_speed():
        child = context.Process(target=_child, args=(sender, prepare, arguments))
        child.start()
    sender.close()
    try:
        cost: Cost = receiver.recv()
    except EOFError:
        raise RuntimeError(f"{prepare.__name__} failed; its own message is above") from None
    child.join()
    return cost


def interleaved(sides: Mapping[str, Side], rounds: int) -> dict[str, list[Cost]]:
    """Measure all sides in turn, `rounds` times."""
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            costs[name].append(in_child(*side))
    return costs


def median(costs: list[Cost], field: Field) -> float:
    """Return the median of one quantity."""
    return statistics.median(getattr(cost, field) for cost in costs)


def ratio(costs: list[Cost], against: list[Cost], field: Field) -> float:
    """Return the median over rounds of cost / against."""
    pairs = zip(costs, against, strict=True)
    return statistics.median(getattr(a, field) / max(getattr(b, field), 1e-9) for a, b in pairs)


def table(costs: Mapping[str, list[Cost]], against: str) -> str:
    """Return one line per side: medians, and how many times slower it is than the side `against`."""
    lines = [f"{'':28}{'CPU s':>9}{'wall s':>9}{'peak MB':>9}   x CPU  x wall   (as many times {against})"]
    for name, cost in costs.items():
        cells = [f"{median(cost, 'cpu_s'):9.3f}{median(cost, 'wall_s'):9.3f}{median(cost, 'peak_mb'):9.0f}"]
        cells += [f"{ratio(cost, costs[against], field):8.2f}" for field in ("cpu_s", "wall_s")]
        lines.append(f"{name:28}{''.join(cells)}")
    return "\n".join(lines)


def _child(sender: Any, prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> None:
    work = prepare(*arguments)
    _forget_peak()
    memory, cpu, wall = _resident_mb(), _cpu_seconds(), time.perf_counter()
    result = work()
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    sender.send(Cost(cpu, wall, max(0.0, _peak_mb() - memory), result))


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _forget_peak() -> None:
    """Start the peak anew, so that preparing does not count; only Linux can."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _resident_mb() -> float:
    return _status("VmRSS") if Path("/proc/self/status").exists() else _peak_mb()


def _peak_mb() -> float:
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _status(key: str) -> float:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(key))
    return int(line.split()[1]) / 2**10


@contextmanager
def _full_speed() -> Iterator[None]:
    """Start children without the settings that hold libraries back."""
    kept = {name: os.environ.pop(name) for name in HELD_BACK if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
