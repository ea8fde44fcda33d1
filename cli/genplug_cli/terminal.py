"""Where text goes: results to stdout; progress and messages, for people, to stderr."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from genplug.log import Log, Silent
from genplug_cli import workers

_ASCII = str.maketrans({"↓": "v", "↑": "^", "→": ">", "±": "+-", "×": "x", "≥": ">=", "≤": "<=", "…": "..."})


def log(quiet: bool = False) -> Log:
    """Return the log of this process: bars on a terminal, lines elsewhere; only the main one speaks."""
    if not workers.is_main():
        return Silent()
    if quiet:
        return Warnings()
    from genplug_cli.progress import Bars, Lines

    return Bars() if sys.stderr.isatty() else Lines()


class Warnings(Silent):
    """The log of `--quiet`: warnings alone."""

    def warn(self, text: str) -> None:
        """Say a warning."""
        warn(text)


def warn(text: str) -> None:
    """Print a warning on stderr, from the main process only."""
    if workers.is_main():
        print(f"Warning: {text}", file=sys.stderr)


def say(text: str = "") -> None:
    """Print a result on stdout, from the main process only."""
    if workers.is_main():
        print(text if _speaks_unicode() else text.translate(_ASCII))


def say_json(value: Any) -> None:
    """Print a result as JSON on stdout, from the main process only."""
    if workers.is_main():
        print(json.dumps(plain(value), indent=1, default=str, allow_nan=False))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: what is not finite becomes null, dataclasses dictionaries."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = (), indent: str = "") -> str:
    """Return rows in aligned columns; on a terminal the last column is wrapped to its width."""
    lines = [list(head), *map(list, rows)] if head else [list(row) for row in rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))] if lines else []
    return "\n".join(_row(row, widths, indent) for row in lines)


def _row(row: Sequence[str], widths: Sequence[int], indent: str) -> str:
    start = indent + "".join(f"{cell:<{width}}  " for cell, width in zip(row[:-1], widths[:-1], strict=True))
    return (start + _wrap(row[-1], len(start))).rstrip()


def _wrap(text: str, start: int) -> str:
    """Wrap text that begins in a column, where there is a terminal with room for it."""
    room = shutil.get_terminal_size().columns - start
    if not sys.stdout.isatty() or room < 20 or len(text) <= room:
        return text
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * start}".join(lines)


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
