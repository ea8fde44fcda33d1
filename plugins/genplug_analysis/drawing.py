"""Pictures of the analysis, made of the parts of `genplug.figures`: their colours follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from genplug.figures import PALETTE, WIDTH, Scale, dot, line, scale, svg, text, x_axis, y_axis
from genplug_analysis.recording import Course

LEFT, RIGHT, TOP = 48, WIDTH - 12, 44
REAL, LINE = 2, 3  # of the palette: grey for real points, green for a boundary on the plane
DASHED = 'stroke-width="1.5" stroke-dasharray="4 3"'
MOST_NAMES = len(PALETTE) - 1  # in a legend of classes
GRID = 96  # cells along each coordinate on which a boundary is looked for


def class_colour(label: int | None) -> int:
    """Return the palette's number of a class: real samples keep their grey; the eighth class begins anew."""
    others = [at for at in range(len(PALETTE)) if at != REAL]
    return others[(label or 0) % len(others)]


def heading(title: str, note: str) -> list[str]:
    """Return a title and what is to be known of the picture."""
    return [text(4, 14, title, kind="title", limit=46), text(4, 32, note, kind="soft", limit=58)]


def legend(top: float, entries: Sequence[tuple[str, str, str]]) -> str:
    """Return one line per (class of stroke, look, name)."""
    parts = []
    for at, (kind, look, name) in enumerate(entries):
        y = top + 16 * at
        parts.append(line(LEFT, y - 4, LEFT + 18, y - 4, kind, look) + text(LEFT + 24, y, name, kind="soft"))
    return "".join(parts)


def path(points: Sequence[tuple[float, float]], kind: str, look: str) -> str:
    """Return a line through points in pixels."""
    where = " ".join(f"{a:g},{b:g}" for a, b in points)
    return f'<polyline points="{where}" class="{kind}" fill="none" {look}/>'


def cloud(points: Sequence[Sequence[float]], x: Scale, y: Scale, kind: str, opacity: float) -> str:
    """Return points as dots of one path."""
    dots = "".join(f"M{x(a):g} {y(b):g}h0" for a, b in points)
    look = f'stroke-width="3" stroke-linecap="round" stroke-opacity="{opacity}" fill="none"'
    return f'<path class="{kind}" d="{dots}" {look}/>'


def strokes(
    segments: Sequence[tuple[float, float, float, float]], x: Scale, y: Scale, kind: str, look: str
) -> str:
    """Return segments (from, to) as one path."""
    where = "".join(f"M{x(a):g} {y(b):g}L{x(c):g} {y(d):g}" for a, b, c, d in segments)
    return f'<path class="{kind}" d="{where}" fill="none" {look}/>'


def trajectory_plot(course: Course, boundaries_T: Sequence[Tensor], spread: float, most: int) -> str:
    """Draw x / sqrt(spread^2 + sigma^2) against ln sigma, from noise at the left to samples at the right."""
    assert course.labels_N is not None
    positive = course.sigmas_T[course.sigmas_T > 0]
    at_T = [*(-positive.log()).tolist()]
    at_T.append(2 * at_T[-1] - at_T[-2] if len(at_T) > 1 else at_T[-1] + 1)  # where sigma = 0 is drawn
    scales_T = (course.sigmas_T.square() + spread**2).sqrt()
    shown = torch.linspace(0, course.x_T.shape[1] - 1, min(most, course.x_T.shape[1])).long()
    lines_TN = course.x_T[:, shown, 0] / scales_T[:, None]
    roots_T = [b_R / s for b_R, s in zip(boundaries_T, scales_T, strict=True)]
    x, y, bottom = Scale(at_T[0], at_T[-1], LEFT, RIGHT), scale(lines_TN.flatten().tolist(), 220, TOP), 220
    parts = heading("trajectories", "x / √(real variance + σ²), noise at the left, samples at the right")
    parts += [y_axis(y, LEFT, RIGHT), _sigma_axis(course.sigmas_T, at_T, x, bottom)]
    for row, label in zip(lines_TN.T.tolist(), course.labels_N[shown].tolist(), strict=True):
        points = [(x(a), y(b)) for a, b in zip(at_T, row, strict=True)]
        parts.append(path(points, f"s{class_colour(label)}", 'stroke-width="1" stroke-opacity=".45"'))
    for a, b_R in zip(at_T, roots_T, strict=True):
        parts += [dot(x(a), y(b), 2, f"f{REAL}") for b in b_R.tolist() if y.low <= b <= y.high]
    labels = sorted({int(label) for label in course.labels_N.unique()})
    names = [(f"s{class_colour(c)}", 'stroke-width="1.5"', f"class {c}") for c in labels]
    names.append((f"s{REAL}", 'stroke-width="4" stroke-linecap="round" stroke-dasharray="0 6"', "boundary"))
    return svg("trajectories and decision boundary", 256 + 16 * len(names), *parts, legend(264, names))


def _sigma_axis(sigmas_T: Tensor, at_T: Sequence[float], x: Scale, bottom: float) -> str:
    parts = []
    powers = [10.0**power for power in range(-3, 3)]
    for sigma in [p for p in powers if float(sigmas_T[sigmas_T > 0].min()) <= p <= float(sigmas_T[0])]:
        at = x(-math.log(sigma))
        parts.append(line(at, TOP, at, bottom, "axis"))
        parts.append(text(at, bottom + 14, f"{sigma:g}", "middle", "soft"))
    parts.append(text(x(at_T[-1]), bottom + 14, "0", "middle", "soft"))
    return "".join(parts) + text(RIGHT, bottom + 28, "noise level σ", "end", "soft")


def class_plot(
    title: str,
    fake: Mapping[int | None, Tensor],
    real_M2: Tensor,
    odds: Callable[[Tensor], Tensor] | None,
) -> str:
    """Draw points N2 of each class over real ones in grey, with the line where `odds` of points are 0."""
    every = torch.cat([real_M2, *fake.values()])
    bottom = WIDTH - 4
    x, y = scale(every[:, 0].tolist(), LEFT, RIGHT), scale(every[:, 1].tolist(), bottom, TOP)
    note = "real points in grey behind" + ("; line: the decision boundary" if odds else "")
    parts = [*heading(title, note), x_axis(x, TOP, bottom), y_axis(y, LEFT, RIGHT)]
    parts.append(cloud(real_M2.tolist(), x, y, f"s{REAL}", 0.35))
    for label, points in fake.items():
        parts.append(cloud(points.tolist(), x, y, f"s{class_colour(label)}", 0.7))
    if odds is not None:
        parts.append(strokes(zero_line(odds, x, y), x, y, f"s{LINE}", 'stroke-width="1.5"'))
    looks, labels = 'stroke-width="5" stroke-linecap="round"', [c for c in fake if c is not None]
    names = [(f"s{class_colour(c)}", looks, f"class {c}") for c in labels]
    if len(names) > MOST_NAMES:  # more than one tells apart by colour: each class has its number inside
        centres = {c: fake[c].mean(0).tolist() for c in labels}
        parts += [text(x(a), y(b) + 4, f"{c}", "middle", "title") for c, (a, b) in centres.items()]
        names = []
    return svg(f"{title}, {note}", bottom + 24 + 16 * len(names), *parts, legend(bottom + 34, names))


def zero_line(
    odds: Callable[[Tensor], Tensor], x: Scale, y: Scale, cells: int = GRID
) -> list[tuple[float, float, float, float]]:
    """Return where a function of points N2 is 0, as segments: marching squares with linear interpolation."""
    at_x, at_y = (torch.linspace(one.low, one.high, cells + 1) for one in (x, y))
    f = odds(torch.cartesian_prod(at_x, at_y)).reshape(cells + 1, cells + 1)
    mixed = (f[:-1, :-1] > 0).int() + (f[1:, :-1] > 0).int() + (f[:-1, 1:] > 0).int() + (f[1:, 1:] > 0).int()
    segments = []
    for i, j in ((mixed > 0) & (mixed < 4)).nonzero().tolist():
        corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
        found = []
        for (a, b), (c, d) in zip(corners, [*corners[1:], corners[0]], strict=True):
            u, v = float(f[a, b]), float(f[c, d])
            if (u > 0) != (v > 0):
                s = u / (u - v)
                found.append((float(torch.lerp(at_x[a], at_x[c], s)), float(torch.lerp(at_y[b], at_y[d], s))))
        segments += [(*p, *q) for p, q in zip(found[::2], found[1::2], strict=True)]
    return segments


def move_plot(title: str, before_N2: Tensor, after_N2: Tensor, real_M2: Tensor) -> str:
    """Draw where each sample moves: a dot where it was, a line to where it is."""
    every, bottom = torch.cat([before_N2, after_N2, real_M2]), WIDTH - 4
    x, y = scale(every[:, 0].tolist(), LEFT, RIGHT), scale(every[:, 1].tolist(), bottom, TOP)
    parts = heading(title, "from the base's samples (dots); real points in grey behind")
    parts += [x_axis(x, TOP, bottom), y_axis(y, LEFT, RIGHT), cloud(real_M2.tolist(), x, y, f"s{REAL}", 0.35)]
    moves = [(a, b, c, d) for (a, b), (c, d) in zip(before_N2.tolist(), after_N2.tolist(), strict=True)]
    parts.append(strokes(moves, x, y, "s1", 'stroke-opacity=".7"'))
    parts.append(cloud(before_N2.tolist(), x, y, "s0", 0.8))
    return svg(title, bottom + 20, *parts)


def histogram_plot(
    title: str, note: str, sets: Mapping[str, tuple[Tensor, int]], marks: Sequence[float], bins: int = 40
) -> str:
    """Draw the share of values N in each bin as one outline per set, of a palette's colour, and marks."""
    values = [values_N.double() for values_N, _ in sets.values()]
    ends = torch.tensor([0.002, 0.998], dtype=torch.float64)
    low, high = torch.cat(values).quantile(ends).tolist()
    low, high = min(low, *marks, high), max(high, *marks, low)
    low, high = (low - 0.5, high + 0.5) if high == low else (low, high)
    shares = [torch.histc(v.clamp(low, high), bins, low, high) / len(v) for v in values]
    x, y = Scale(low, high, LEFT, RIGHT), scale([0.0, *torch.cat(shares).tolist()], 196, TOP, margin=0.0)
    parts = [*heading(title, note), x_axis(x, TOP, 196), y_axis(y, LEFT, RIGHT)]
    parts += [line(x(mark), TOP, x(mark), 196, f"s{REAL}", DASHED) for mark in marks]
    edges, names = torch.linspace(low, high, bins + 1).tolist(), []
    for (name, (_, colour)), share in zip(sets.items(), shares, strict=True):
        corners = [(x(edge), y(s)) for i, s in enumerate(share.tolist()) for edge in edges[i : i + 2]]
        parts.append(path(corners, f"s{colour}", 'stroke-width="1.5"'))
        names.append((f"s{colour}", 'stroke-width="1.5"', name))
    return svg(f"{title}, {note}", 226 + 16 * len(names), *parts, legend(230, names))
