"""`genplug evaluate --html`: scores, intervals, plots and samples in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from genplug import figures
from genplug.blocks import drawn
from genplug.errors import DataError
from genplug.evaluation import Evaluation
from genplug.figures import Interval, number
from genplug.histograms import point_plots
from genplug.loading import light_run
from genplug.protocols import Score
from genplug.report import many, page, write
from genplug.samplesets import SampleSet
from genplug.verdicts import find_score, html_table

_SET_NAMES = ("real", "generated", "train", "reference")


def write_page(scores: Evaluation, path: Path) -> None:
    """Write the page of an evaluation; an existing file is replaced, whole or not at all."""
    body = [
        "<small>genplug evaluate</small><h1>Generated against real</h1>",
        _sets(scores.facts),
        f"<h2>Scores</h2>{_table(scores)}",
        many(f"<figure>{plot}</figure>" for plot in _intervals(scores)),
        _plots(scores),
        _samples(scores.sets),
    ]
    try:
        write(path, page("genplug evaluate", "".join(body)).encode())
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from None


def _sets(facts: Mapping[str, Any]) -> str:
    """Return what was compared, and what disturbs the comparison."""
    rows = [
        f"<tr><th>{name}</th><td>{escape(one['name'])}</td><td>{one['count']:,}</td>"
        f"<td>{' × '.join(str(side or 'mixed') for side in one['shape'])}</td></tr>"
        for name in _SET_NAMES
        if (one := facts.get(name))
    ]
    rows += (
        [f"<tr><th>statistics</th><td>{escape(facts['statistics'])}</td></tr>"]
        if "statistics" in facts
        else []
    )
    notes = [escape(text) for text in facts.get("warnings", ())]
    said = "".join(f"<li>{text}</li>" for text in notes)
    return html_table("<tr><th></th><th>set</th><th>samples</th><th>shape</th></tr>", *rows) + (
        f"<ul>{said}</ul>" if said else ""
    )


def _table(scores: Evaluation) -> str:
    head = ("score", "value", "interval", "generated", "real", "extractor")
    wishes = {name: find_score(light_run(), score.measure).wish for name, score in scores.items()}
    rows = [
        f"<tr><th>{escape(name)}<br><small>{wishes[name]}</small></th><td>{number(score.value)}</td>"
        f"<td>{number(score.low)} to {number(score.high)}<small>{escape(score.interval)}</small></td>"
        f"<td>{score.n_generated}</td><td>{score.n_real}</td><td>{escape(score.extractor or '–')}</td></tr>"
        for name, score in scores.items()
    ]
    return html_table(f"<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>", *rows)


def _intervals(scores: Evaluation) -> list[str]:
    """Return a plot for each score that several extractors gave: they stand beside each other."""
    grouped: dict[str, list[Interval]] = {}
    for name, score in scores.items():
        grouped.setdefault(score.measure or name, []).append(
            Interval(_told_apart(name, score), score.value, score.low, score.high)
        )
    return [
        figures.interval_plot(measure, "by extractor", rows)
        for measure, rows in grouped.items()
        if len(rows) > 1
    ]


def _told_apart(name: str, score: Score) -> str:
    """Return what tells a score from others of its measure: the extractor, and more where there is more."""
    rest = name.removeprefix(f"{score.measure}-")
    return rest if rest != name else score.extractor or name


def _plots(scores: Evaluation) -> str:
    plots = (
        f"<div><small>{escape(title)}</small><figure>{plot}</figure></div>"
        for title, plot in drawn(scores).items()
    )
    shown = many(plots)
    return f"<h2>Plots of the evaluators</h2>{shown}" if "<figure>" in shown else ""


def _samples(sets: Mapping[str, SampleSet]) -> str:
    """Show the first samples of each set, where they are images of one size or points."""
    shown = {name: samples for name, samples in sets.items() if 0 not in samples.shape}
    if not shown:
        return ""
    if all(len(samples.shape) == 1 for samples in shown.values()):
        drawings = many(f"<figure>{plot}</figure>" for plot in point_plots(shown).values())
    else:
        grids = {name: figures.picture_grid({name: samples}, most=24) for name, samples in shown.items()}
        drawings = "".join(
            f"<figure>{figures.inline_png(figures.png_bytes(grid), name, grid.width)}</figure>"
            for name, grid in grids.items()
        )
    return f"<h2>First samples</h2>{drawings}"
