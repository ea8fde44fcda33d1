"""Pictures of a report: plots as SVG text, sample grids with Pillow.

Plots are 340 units wide, so that a phone shows them at their size; colours are the classes of `STYLE`,
which follows the reader's light or dark scheme. Every text in a plot is escaped here.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from genplug.samplesets import SampleSet, first, read_all

WIDTH = 340
CELL = 64  # pixels of a sample in a grid, at least
LARGEST_CELL = 128
ROWS = {"base": 0, "improved": 1, "floor": 2, "real": 2}
PALETTE = (  # on light and on dark ground
    ("#2b6cb0", "#6ea8f0"),
    ("#c05a00", "#ff9a4d"),
    ("#6b7280", "#9ca3af"),
    ("#0b7d68", "#3cc9ab"),
    ("#8a4fbf", "#c29bf0"),
    ("#b8325e", "#f2789f"),
    ("#6f6f00", "#cfcf4a"),
    ("#7b4a2b", "#d0a283"),
)


def _colours(scheme: int) -> str:
    return "".join(f".s{i}{{stroke:{c[scheme]}}}.f{i}{{fill:{c[scheme]}}}" for i, c in enumerate(PALETTE))


STYLE = (
    ".plot{color:#1c2024;font:12px system-ui,sans-serif}.plot text{fill:currentColor}"
    ".plot .axis{stroke:currentColor;stroke-opacity:.16}.plot .soft{opacity:.7}.plot .title{font-weight:600}"
    f".plot .ring{{fill:none;stroke:currentColor;stroke-width:1.5}}{_colours(0)}"
    f"@media(prefers-color-scheme:dark){{.plot{{color:#e6e8eb}}{_colours(1)}}}"
)


@dataclass(frozen=True)
class Interval:
    """One row of an interval plot."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    blocks: Sequence[float] = ()


@dataclass(frozen=True)
class Line:
    """One line of a line plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def scale(values: Iterable[float], start: float, end: float, margin: float = 0.06) -> Scale:
    """Return a scale that shows all finite values with a margin."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    pad = (high - low) * margin if high > low else abs(low) * 0.1 or 0.5
    return Scale(low - pad, high + pad, start, end)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers inside [low, high], about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((power * m for m in (1, 2, 2.5, 5) if power * m >= raw), power * 10)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def number(value: float | None) -> str:
    """Return a value with four digits."""
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def colour(name: str, names: Sequence[str]) -> int:
    """Return the palette's number of a sample set: base, improved and floor keep theirs."""
    others = [other for other in names if other not in ROWS]
    return ROWS[name] if name in ROWS else 3 + others.index(name) % (len(PALETTE) - 3)


def svg(title: str, height: float, *content: str) -> str:
    """Return a plot; `title` is for those who cannot see it."""
    return (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(title)}">{"".join(content)}</svg>'
    )


def standalone(plot: str) -> str:
    """Return a plot as a file of its own, with its style."""
    return plot.replace(">", f"><style>{STYLE}</style>", 1)


def text(x: float, y: float, content: str, anchor: str = "start", kind: str = "", limit: int = 60) -> str:
    """Return a text, shortened to `limit` characters."""
    shown = content if len(content) <= limit else content[: limit - 1] + "…"
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(shown)}</text>'


def _title(content: str) -> str:
    return text(4, 14, content, kind="title", limit=46)


def line(x1: float, y1: float, x2: float, y2: float, kind: str, more: str = "") -> str:
    """Return a straight line."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{kind}" {more}/>'


def dot(x: float, y: float, radius: float, kind: str, more: str = "") -> str:
    """Return a disc."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{kind}" {more}/>'


def x_axis(x: Scale, top: float, bottom: float, count: int = 4) -> str:
    """Return vertical grid lines with their numbers below."""
    parts = []
    for tick in ticks(x.low, x.high, count):
        parts.append(line(x(tick), top, x(tick), bottom, "axis"))
        parts.append(text(x(tick), bottom + 14, f"{tick:.8g}", "middle", "soft"))
    return "".join(parts)


def y_axis(y: Scale, left: float, right: float) -> str:
    """Return horizontal grid lines with their numbers to the left."""
    parts = []
    for tick in ticks(y.low, y.high):
        parts.append(line(left, y(tick), right, y(tick), "axis"))
        parts.append(text(left - 5, y(tick) + 4, f"{tick:.8g}", "end", "soft"))
    return "".join(parts)


def interval_plot(title: str, note: str, rows: Sequence[Interval], target: float | None = None) -> str:
    """Draw a value, its interval and its blocks for each sample set; the floor as a dashed line."""
    shown = [v for row in rows for v in (row.value, row.low, row.high, *row.blocks) if v is not None]
    x = scale([*shown, *([] if target is None else [target])], 88, WIDTH - 12)
    bottom, names = 44 + 28 * len(rows), [row.name for row in rows]
    parts = [_title(title), text(4, 30, note, kind="soft"), x_axis(x, 38, bottom)]
    marks = [target] if target is not None else [row.value for row in rows if row.name == "floor"]
    parts += [line(x(mark), 38, x(mark), bottom, "s2", 'stroke-dasharray="3 3"') for mark in marks]
    for at, row in enumerate(rows):
        y, c = 56 + 28 * at, colour(row.name, names)
        parts.append(text(4, y + 4, row.name, limit=13))
        if row.low is not None and row.high is not None:
            parts.append(line(x(row.low), y, x(row.high), y, f"s{c}", 'stroke-width="2"'))
        parts += [dot(x(block), y, 3, f"f{c}", 'fill-opacity=".45"') for block in row.blocks]
        parts.append(line(x(row.value), y - 8, x(row.value), y + 8, f"s{c}", 'stroke-width="3"'))
    return svg(f"{title}, {note}", bottom + 20, *parts)


def line_plot(title: str, lines: Sequence[Line], y_values: Iterable[float]) -> str:
    """Draw lines over training steps; `y_values` span the axis, so that plots can share it."""
    x = scale([v for one in lines for v in one.x], 56, WIDTH - 22, margin=0)
    y = scale(y_values, 150, 26)
    parts = [_title(title), x_axis(x, 26, 150), y_axis(y, 56, WIDTH - 22)]
    for at, one in enumerate(lines):
        points = " ".join(f"{x(a):g},{y(b):g}" for a, b in zip(one.x, one.y, strict=True) if math.isfinite(b))
        parts.append(f'<polyline points="{points}" class="{_stroke(at)}" fill="none" {_dash(at)}/>')
        left, below = (56, 198)[at % 2], 184 + 16 * (at // 2)
        parts.append(line(left, below - 4, left + 16, below - 4, _stroke(at), _dash(at)))
        parts.append(text(left + 20, below, one.name, kind="soft", limit=19))
    return svg(f"{title} over training steps", 176 + 16 * math.ceil(len(lines) / 2), *parts)


def _stroke(at: int) -> str:
    return f"s{at % len(PALETTE)}"


def _dash(at: int) -> str:
    dashes = f"{1 + at // len(PALETTE)} 3" if at >= len(PALETTE) else "none"
    return f'stroke-width="1.5" stroke-dasharray="{dashes}"'


def selection_plot(
    title: str, rounds: Sequence[int], scores: Sequence[float | None], chosen: int | None
) -> str:
    """Draw the score of every candidate by round, the chosen one ringed; None where there is no number."""
    y, last = scale([score for score in scores if score is not None], 180, 26), max(rounds)
    width = (WIDTH - 70) / (last + 1)
    parts = [_title(title), y_axis(y, 56, WIDTH - 14)]
    for at in range(last + 1):
        name = f"{'round ' * (last < 5)}{at}" if at else "base"
        parts.append(text(56 + width * (at + 0.5), 198, name, "middle", "soft"))
    for at, (round_, score) in enumerate(zip(rounds, scores, strict=True)):
        if score is None:
            continue
        place, size = rounds[:at].count(round_) + 1, rounds.count(round_) + 1
        x = 56 + width * (round_ + 0.1 + 0.8 * place / size)
        parts.append(dot(x, y(score), 3.5, "f1" if at == chosen else "f0"))
        parts.append(dot(x, y(score), 8, "ring") if at == chosen else "")
    return svg(title, 206, *parts)


def scatter_plots(sets: Mapping[str, SampleSet], most: int = 600) -> dict[str, str]:
    """Draw each set of points on the same axes, the real ones behind: first two coordinates."""
    points = {name: _plane(samples, most) for name, samples in sets.items()}
    every = [value for rows in points.values() for row in rows for value in row]
    x, y = scale(every, 44, WIDTH - 10), scale(every, WIDTH - 20, 28)
    axes, names, plots = x_axis(x, 28, WIDTH - 20) + y_axis(y, 44, WIDTH - 10), list(sets), {}
    for name in names:
        clouds = [(n, 0.35 if n != name else 0.8) for n in dict.fromkeys(("real", name)) if n in points]
        drawn = [_cloud(points[n], x, y, colour(n, names), opacity) for n, opacity in clouds]
        behind = f"{name}, real points in grey behind" if len(clouds) > 1 else name
        plots[name] = svg(behind, WIDTH, _title(behind), axes, *drawn)
    return plots


def _plane(samples: SampleSet, most: int) -> list[list[float]]:
    """Return two coordinates of the first points; of one-dimensional ones, the value and 0."""
    rows = read_all(first(samples, min(most, len(samples))))[:, :2]
    return [list(map(float, [*row, 0.0][:2])) for row in rows.tolist()]


def _cloud(rows: Sequence[Sequence[float]], x: Scale, y: Scale, number_: int, opacity: float) -> str:
    path = "".join(f"M{x(a):g} {y(b):g}h0" for a, b in rows)
    look = f'stroke-width="4" stroke-linecap="round" stroke-opacity="{opacity}" fill="none"'
    return f'<path class="s{number_}" d="{path}" {look}/>'


def picture_grid(sets: Mapping[str, SampleSet], most: int = 48) -> Image.Image:
    """Put the first samples of all sets beside each other, sorted by class; ground transparent."""
    names = list(sets)
    lead = sets[names[0]]
    count = min(most, *(len(samples) for samples in sets.values()))
    labels = None if lead.labels is None else lead.labels[:count]
    order = list(range(count)) if labels is None else torch.argsort(labels, stable=True).tolist()
    images = {name: read_all(first(samples, count)) for name, samples in sets.items()}
    height, width = cell_size(lead.shape)
    across = min(count, max(1, 6 // len(names)))
    step_x, step_y = len(names) * (width + 2) + 14, height + 18
    sheet = Image.new("RGBA", (across * step_x - 14, 18 + math.ceil(count / across) * step_y))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for at, row in enumerate(order):
        x, y = at % across * step_x, 18 + at // across * step_y
        caption = f"#{row}" if labels is None else f"class {int(labels[row])}  #{row}"
        draw.text((x, y), caption, fill="#808080", font=font)
        for column, name in enumerate(names):
            sheet.paste(_enlarged(images[name][row], height, width), (x + column * (width + 2), y + 14))
        for column, name in enumerate(names if at < across else ()):
            draw.text((x + column * (width + 2), 2), name[: max(4, width // 7)], fill="#808080", font=font)
    return sheet


def cell_size(shape: Sequence[int]) -> tuple[int, int]:
    """Return height and width of a sample in a grid: whole multiples of small ones, large ones reduced."""
    side = max(shape[-2:])
    factor = max(1, CELL // side) if side <= LARGEST_CELL else LARGEST_CELL / side
    return max(1, round(shape[-2] * factor)), max(1, round(shape[-1] * factor))


def _enlarged(sample: Any, height: int, width: int) -> Image.Image:
    """Return a uint8 image CHW: enlarged by nearest neighbour, reduced by averaging."""
    array = sample.permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    larger = height >= image.height and width >= image.width
    return image.resize((width, height), Image.Resampling.NEAREST if larger else Image.Resampling.BOX)


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def inline_png(content: bytes, alternative: str, width: int) -> str:
    """Return an `img` that carries its PNG."""
    data = base64.b64encode(content).decode("ascii")
    return f'<img alt="{escape(alternative)}" width="{width}" src="data:image/png;base64,{data}">'
