"""Pictures of points for reports: histograms on a line, scatter plots in more dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genplug import figures
from genplug.figures import WIDTH, Scale
from genplug.samplesets import SampleSet, first, read_all

BINS = 75
MOST = 20_000
TOP, BOTTOM, LEFT, RIGHT = 28, 160, 44, WIDTH - 10


def point_plots(sets: Mapping[str, SampleSet]) -> dict[str, str]:
    """Draw each set of points on the same axes, the real ones behind."""
    flat = all(samples.shape == (1,) for samples in sets.values())
    return histogram_plots(sets) if flat else figures.scatter_plots(sets)


def histogram_plots(sets: Mapping[str, SampleSet]) -> dict[str, str]:
    """Draw how the one-dimensional points of each set are spread: the share of them in every bin."""
    values = {name: _values(samples) for name, samples in sets.items()}
    x = figures.scale((v for rows in values.values() for v in rows), LEFT, RIGHT)
    shares = {name: _shares(rows, x) for name, rows in values.items()}
    y = Scale(0, 1.05 * max(max(bins) for bins in shares.values()), BOTTOM, TOP)
    axes, names, plots = figures.x_axis(x, TOP, BOTTOM) + figures.y_axis(y, LEFT, RIGHT), list(sets), {}
    for name in names:
        drawn = [n for n in dict.fromkeys(("real", name)) if n in shares]
        title = f"{name}, real points in grey behind" if len(drawn) > 1 else name
        steps = [_steps(shares[n], y, figures.colour(n, names), filled=n == "real") for n in drawn]
        heading = figures.text(4, 14, title, kind="title", limit=46)
        plots[name] = figures.svg(f"histogram of {title}", BOTTOM + 20, heading, axes, *steps)
    return plots


def _values(samples: SampleSet) -> list[float]:
    return list(read_all(first(samples, min(MOST, len(samples)))).flatten().tolist())


def _shares(values: Sequence[float], x: Scale) -> list[float]:
    """Return the share of values in each of `BINS` equal parts of the axis."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - x.low) / (x.high - x.low) * BINS))] += 1
    return [count / len(values) for count in counts]


def _steps(shares: Sequence[float], y: Scale, number: int, filled: bool) -> str:
    """Draw a histogram's outline, from the ground up and down again."""
    width = (RIGHT - LEFT) / BINS
    tops = "".join(f"V{y(share):g}H{LEFT + width * (at + 1):g}" for at, share in enumerate(shares))
    look = f'class="f{number}" fill-opacity=".35"' if filled else f'class="s{number}" fill="none"'
    return f'<path d="M{LEFT} {BOTTOM}{tops}V{BOTTOM}" {look} stroke-width="1.5"/>'
