"""What a sweep shows: scores against each other and over the swept value, as SVG, and one row per value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from genplug import figures
from genplug.figures import WIDTH, Scale, dot, line, number, scale, svg, text
from genplug.sweeps import Sweep, Value
from genplug.verdicts import Known, Values, html_table, set_names

LEFT, RIGHT, TOP, BOTTOM = 56, WIDTH - 14, 40, 200
MOST_LABELS = 12
MARKS = {"base": 0, "floor": 2}  # palette of what stands beside the curve
CURVE = 3


@dataclass(frozen=True)
class Swept:
    """The models of a sweep, in its order."""

    sweep: Sweep
    metrics: Values

    @property
    def values(self) -> Sequence[Value]:
        """The swept values."""
        return self.sweep.values

    def scores(self, name: str) -> list[Values | None]:
        """Return a score of every value's model; None where it is missing or not finite."""
        found = [self.metrics.get(self.sweep.model(value), {}).get(name) for value in self.values]
        return [score if score and score["value"] is not None else None for score in found]

    def places(self) -> list[float]:
        """Return where each value is on an axis: as a number if all are, else side by side."""
        numbers = [float(v) for v in self.values if isinstance(v, int | float) and not isinstance(v, bool)]
        return numbers if len(numbers) == len(self.values) else [float(at) for at in range(len(self.values))]

    def labels(self) -> list[str]:
        """Return what each value is called beside its point; of many, only some."""
        every = -(-len(self.values) // MOST_LABELS)
        texts = [self.sweep.model(value).partition("=")[2] for value in self.values]
        return [label if at % every == 0 else "" for at, label in enumerate(texts)]


def of_run(metrics: Values) -> Swept | None:
    """Return the sweep of a run; None if it has none."""
    recorded = metrics.get("run", {}).get("sweep")
    return Swept(Sweep(**recorded), metrics) if recorded else None


def pairs(metrics: Values, measures: Sequence[str]) -> list[tuple[str, str]]:
    """Return the scores that are drawn against each other: the first measure against each other one.

    Scores on the same features belong together; what has no partner is left out.
    """
    found = {(s.get("measure"), s.get("extractor")): name for name, s in metrics["base"].items()}
    extractors = dict.fromkeys(extractor for _, extractor in found)
    return [
        (found[(measures[0], extractor)], found[(other, extractor)])
        for other in measures[1:]
        for extractor in extractors
        if (measures[0], extractor) in found and (other, extractor) in found
    ]


def tradeoff_plot(swept: Swept, y_name: str, x_name: str) -> str:
    """Draw one score against another: the curve over the swept values, base and floor beside it."""
    labels = swept.labels()
    curve = [
        (first["value"], second["value"], label)
        for first, second, label in zip(swept.scores(x_name), swept.scores(y_name), labels, strict=True)
        if first and second
    ]
    marks = [
        (first["value"], second["value"], name)
        for name in MARKS
        if (first := _known(swept, name, x_name)) and (second := _known(swept, name, y_name))
    ]
    x = scale([point[0] for point in (*curve, *marks)], LEFT, RIGHT, margin=0.12)
    y = scale([point[1] for point in (*curve, *marks)], BOTTOM, TOP, margin=0.12)
    title = f"{y_name} against {x_name}"
    parts = [*_axes(title, swept, x, y), text(RIGHT, BOTTOM + 30, x_name, "end", "soft")]
    parts.append(_polyline([(x(a), y(b)) for a, b, _ in curve]))
    parts += [part for a, b, label in curve for part in _point(x(a), y(b), label, CURVE)]
    parts += [part for a, b, name in marks for part in _point(x(a), y(b), name, MARKS[name])]
    return svg(f"{title}, {swept.sweep.option} from {labels[0]} on", BOTTOM + 38, *parts)


def value_plot(swept: Swept, name: str, known: Known) -> str:
    """Draw a score with its interval over the swept values, base and floor as lines."""
    found = [(at, score) for at, score in zip(swept.places(), swept.scores(name), strict=True) if score]
    marks = {mark: score["value"] for mark in MARKS if (score := _known(swept, mark, name))}
    ends = [v for _, s in found for v in (s["value"], s.get("low"), s.get("high")) if v is not None]
    x = scale(swept.places(), LEFT, RIGHT - 34)  # room for the names of the lines
    y = scale([*ends, *marks.values()], BOTTOM, TOP)
    parts = [
        *_axes(name, swept, x, y, known.wish),
        text(RIGHT, BOTTOM + 30, swept.sweep.option, "end", "soft"),
    ]
    for mark, value in marks.items():
        parts.append(line(LEFT, y(value), RIGHT, y(value), f"s{MARKS[mark]}", 'stroke-dasharray="3 3"'))
        parts.append(text(RIGHT, y(value) - 3, mark, "end", "soft"))
    parts.append(_polyline([(x(at), y(score["value"])) for at, score in found]))
    for at, score in found:
        if score.get("low") is not None and score.get("high") is not None:
            parts.append(
                line(x(at), y(score["low"]), x(at), y(score["high"]), f"s{CURVE}", 'stroke-width="2"')
            )
        parts.append(dot(x(at), y(score["value"]), 3, f"f{CURVE}"))
    return svg(f"{name} over {swept.sweep.option}, {known.wish}", BOTTOM + 38, *parts)


def _known(swept: Swept, model: str, name: str) -> Values | None:
    score: Values | None = swept.metrics.get(model, {}).get(name)
    return score if score and score["value"] is not None else None


def _axes(title: str, swept: Swept, x: Scale, y: Scale, note: str = "") -> Iterable[str]:
    """Yield title, grid and numbers; values that are no numbers are named below their place."""
    yield text(4, 14, title, kind="title", limit=46)
    yield text(4, 30, note, kind="soft") if note else ""
    yield figures.y_axis(y, LEFT, RIGHT)
    words = any(isinstance(value, str | bool) for value in swept.values)
    if not (note and words):
        yield figures.x_axis(x, TOP, BOTTOM)
        return
    for at, label in zip(swept.places(), swept.labels(), strict=True):
        yield text(x(at), BOTTOM + 14, label, "middle", "soft", limit=12)


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{a:g},{b:g}" for a, b in points)
    return f'<polyline points="{path}" class="s{CURVE}" fill="none" stroke-width="1.5"/>'


def _point(x: float, y: float, label: str, colour: int) -> list[str]:
    """Draw a point with its name beside it, inside the plot: above if on the curve, else below."""
    side, anchor = (6, "start") if x < RIGHT - 40 else (-6, "end")
    below = -5 if colour == CURVE else 13
    return [dot(x, y, 3.5, f"f{colour}"), text(x + side, y + below, label, anchor)]


def best_of(swept: Swept, name: str, known: Known) -> str:
    """Return in one sentence which value has the best score, against base and floor."""
    scored = [(v, s["value"]) for v, s in zip(swept.values, swept.scores(name), strict=True) if s]
    base, floor = (score["value"] if (score := _known(swept, mark, name)) else None for mark in MARKS)
    ground = f"base {number(base)}, {'no floor' if floor is None else f'floor {number(floor)}'}"
    if not scored or known.better is None:
        return f"{name}: nothing says what is better ({ground})"
    value, best = min(scored, key=lambda pair: known.cost(pair[1]))
    return f"{name}: {number(best)} at {swept.sweep.model(value)} ({ground})"


def model_table(metrics: Values, known: Mapping[str, Known]) -> str:
    """Return one row per model, one column per score."""
    head = "".join(f"<th>{escape(name)}<br><small>{one.wish}</small></th>" for name, one in known.items())
    rows = (
        f"<tr><th>{escape(model)}</th>{''.join(_cell(metrics[model].get(name)) for name in known)}</tr>"
        for model in set_names(metrics)
    )
    return html_table(f"<tr><th>model</th>{head}</tr>", *rows)


def _cell(score: Any) -> str:
    if not score:
        return "<td>–</td>"
    spread = score.get("spread")
    small = f"<small>± {number(spread)}</small>" if spread is not None else ""
    return f"<td>{number(score['value'])}{small}</td>"


def sections(
    swept: Swept, measures: Sequence[str], known: Mapping[str, Known], draw: Callable[[str, str], str]
) -> list[str]:
    """Return what a report says of a sweep; `draw` keeps a plot by name and returns it for the page."""
    top = [name for name, one in known.items() if one.first] or list(known)
    best = "".join(f"<li>{escape(best_of(swept, name, known[name]))}.</li>" for name in top)
    curves = [
        draw(f"tradeoff-{y}-{x}", tradeoff_plot(swept, y, x)) for y, x in pairs(swept.metrics, measures)
    ]
    over = [draw(f"sweep-{name}", value_plot(swept, name, one)) for name, one in known.items()]
    note = "The best of several values on the same seeds is flattered by the choice."
    return [
        f'<ul class="verdicts">{best}</ul><p class="note">{note}</p>',
        f'<h2>Trade-off</h2><div class="many">{"".join(curves)}</div>' if curves else "",
        f"<h2>Scores</h2>{model_table(swept.metrics, known)}",
        f'<h2>Scores over {escape(swept.sweep.option)}</h2><div class="many">{"".join(over)}</div>',
    ]
