"""Plots of the score, made of the parts of `genplug.figures`: curves with intervals, and a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genplug.figures import PALETTE, WIDTH, Interval, Line, dot, line, scale, svg, text, x_axis, y_axis

LEFT, RIGHT, TOP, BOTTOM = 52, WIDTH - 14, 44, 196  # of the axes
DASHED = 'stroke-width="1.5" stroke-dasharray="4 3"'
SOLID = 'stroke-width="1.5"'
CELL = 22  # height of a row of a heat map


@dataclass(frozen=True)
class Curve(Line):
    """A line; with `dots` its points are marked, with `low` and `high` they carry intervals."""

    dots: bool = False
    dashed: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def curve_plot(title: str, note: str, x_name: str, curves: Sequence[Curve], most: float | None = None) -> str:
    """Draw curves from zero on common axes, with a legend below; `most` cuts the vertical axis."""
    shown = [v for one in curves for v in (*one.y, *one.high) if most is None or v <= most]
    x = scale([0.0, *(v for one in curves for v in one.x)], LEFT, RIGHT, margin=0.0)
    y = scale([0.0, *shown], BOTTOM, TOP, margin=0.0)
    parts = [text(4, 14, title, kind="title", limit=46), text(4, 32, note, kind="soft", limit=58)]
    parts += [x_axis(x, TOP, BOTTOM), y_axis(y, LEFT, RIGHT), text(RIGHT, BOTTOM + 30, x_name, "end", "soft")]
    for at, one in enumerate(curves):
        inside = [(x(a), y(b)) for a, b in zip(one.x, one.y, strict=True) if math.isfinite(b) and b <= y.high]
        look = DASHED if one.dashed else SOLID
        points = " ".join(f"{a:g},{b:g}" for a, b in inside)
        parts.append(f'<polyline points="{points}" class="s{at % len(PALETTE)}" fill="none" {look}/>')
        parts += [dot(a, b, 2.5, f"f{at % len(PALETTE)}") for a, b in inside if one.dots]
        for a, low, high in zip(one.x, one.low, one.high, strict=False):
            parts.append(line(x(a), y(low), x(a), y(min(high, y.high)), f"s{at % len(PALETTE)}"))
        below = BOTTOM + 46 + 16 * at
        parts.append(line(LEFT, below - 4, LEFT + 18, below - 4, f"s{at % len(PALETTE)}", look))
        parts.append(text(LEFT + 24, below, one.name, kind="soft", limit=44))
    return svg(f"{title}, {note}", BOTTOM + 40 + 16 * len(curves), *parts)


def share_plot(title: str, note: str, rows: Sequence[Interval], target: float) -> str:
    """Draw shares with their intervals, one row each with room for long names; the target dashed."""
    left, step, top = 150, 20, 44
    bottom = top + step * len(rows)
    x = scale(
        [target, *(v for row in rows for v in (row.value, row.low, row.high) if v is not None)], left, RIGHT
    )
    parts = [text(4, 14, title, kind="title", limit=46), text(4, 32, note, kind="soft", limit=58)]
    parts += [x_axis(x, top - 4, bottom, 3), line(x(target), top - 4, x(target), bottom, "s2", DASHED)]
    for at, row in enumerate(rows):
        y = top + step * at + 8
        parts.append(text(4, y + 4, row.name, limit=24))
        if row.low is not None and row.high is not None:
            parts.append(line(x(row.low), y, x(row.high), y, "s0", 'stroke-width="2"'))
        parts.append(dot(x(row.value), y, 3.5, "f0"))
    return svg(f"{title}, {note}", bottom + 20, *parts)


def heat_map(title: str, note: str, names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Draw a square table of shares in [0, 1] with its numbers; columns are numbered as the rows are."""
    left, top = 128, 58
    step = (WIDTH - 8 - left) / len(names)
    parts = [text(4, 14, title, kind="title", limit=46), text(4, 32, note, kind="soft", limit=58)]
    for i, (name, row) in enumerate(zip(names, values, strict=True)):
        y = top + CELL * i
        parts.append(text(4, y + 15, f"{i + 1} {name}", limit=20))
        parts.append(text(left + step * (i + 0.5), top - 6, f"{i + 1}", "middle", "soft"))
        for j, value in enumerate(row):
            cell = f'x="{left + step * j:g}" y="{y}" width="{step:g}" height="{CELL}"'
            parts.append(f'<rect {cell} class="f0" fill-opacity="{0.6 * value:.3f}"/>')
            if step >= 18:
                parts.append(text(left + step * (j + 0.5), y + 15, f"{100 * value:.0f}", "middle"))
    return svg(f"{title}, {note}", top + CELL * len(names) + 8, *parts)
