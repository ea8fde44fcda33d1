"""`report.html`: what a run shows, in one file that needs nothing else, and its pictures in `figures/`."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from genplug import figures, tradeoff
from genplug.figures import Interval, Line, number
from genplug.histograms import point_plots
from genplug.loading import RUN_FILE
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.snapshots import CURVE, read_curve
from genplug.verdicts import (
    Known,
    Values,
    find_score,
    html_table,
    judge_score,
    score_table,
    set_names,
    verdict_list,
)

MOST_POINTS = 400  # of a curve
MOST_SETS = 6  # whose samples are shown

STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#59606a;--ground:#fff;--rule:#d8dce1}
:root{--good:#0b7d68;--bad:#b42318}@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#a4abb5;
--ground:#14171a;--rule:#343a41;--good:#3cc9ab;--bad:#ff8a7a}}
body{margin:0 auto;padding:1rem;max-width:70rem;color:var(--ink);background:var(--ground);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}h1{font-size:1.4rem}
h2{font-size:1.1rem;margin:2rem 0 .5rem}small,.note{color:var(--soft);font-size:.875rem;font-weight:400}
ul.verdicts{list-style:none;padding:0;font-size:1.1rem}.verdicts li{margin:.4rem 0}
.better b{color:var(--good)}.worse b{color:var(--bad)}.wide{overflow-x:auto}
th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--rule)}
td small{display:block;white-space:nowrap}th:first-child{min-width:6rem}.chosen{font-weight:600}
.many{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem 1.5rem}
table{border-collapse:collapse;font-size:.875rem;overflow-wrap:normal}figure{margin:0;overflow-x:auto}
.plot{width:100%;height:auto;max-width:24rem;display:block}pre{overflow-x:auto;padding:.6rem}
"""


class Pictures:
    """Writes each picture to `figures/` and returns it for the page."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def plot(self, name: str, plot: str) -> str:
        """Keep an SVG."""
        write(self._path(f"{name}.svg"), figures.standalone(plot).encode())
        return f"<figure>{plot}</figure>"

    def image(self, name: str, image: Image.Image, alternative: str) -> str:
        """Keep a PNG."""
        content = figures.png_bytes(image)
        write(self._path(f"{name}.png"), content)
        return f"<figure>{figures.inline_png(content, alternative, image.width)}</figure>"

    def _path(self, name: str) -> Path:
        return self.directory / re.sub(r"[^\w.-]+", "-", name)


def write_report(
    run: Run, metrics: dict[str, Any], samples: dict[str, SampleSet], plots: Mapping[str, str] | None = None
) -> Path:
    """Write `report.html` and `figures/` of a finished run; `samples` are each set's first seed block.

    `plots` are those of the evaluators, SVG by title.
    """
    assert run.directory is not None
    pictures, facts = Pictures(run.directory / "figures"), metrics["run"]
    found = {name: score for model in set_names(metrics) for name, score in metrics[model].items()}
    known = {name: find_score(run, score.get("measure") or name) for name, score in found.items()}
    title = " → ".join(_named(part) for part in (facts.get("generator", {}), *facts.get("objectives", ())))
    shown = _some(samples)
    body = [
        f"<small>genplug report</small><h1>{escape(title)}</h1>",
        *_scores(run, metrics, known, pictures),
        evaluator_plots(_without(plots or {}, samples.keys() - shown.keys()), pictures),
        _before_after(run, shown, facts, pictures),
        _training(run.directory, pictures),
        _selection(run.directory, pictures),
        _what_ran(run.directory, facts),
        _reading(metrics),
    ]
    path = run.directory / "report.html"
    write(path, page(title, "".join(body)).encode())
    return path


def _scores(run: Run, metrics: Values, known: Mapping[str, Known], pictures: Pictures) -> list[str]:
    """Return what became of each score: base against improved, or over the values of a sweep."""
    if swept := tradeoff.of_run(metrics):
        return tradeoff.sections(swept, run.settings.tradeoff, known, pictures.plot)
    verdicts = {name: judge_score(name, metrics, one) for name, one in known.items()}
    return [
        verdict_list(verdicts, known),
        f"<h2>Scores</h2>{score_table(metrics, verdicts, known)}",
        many(_score_plots(metrics, known, pictures)),
    ]


def _some(samples: dict[str, SampleSet]) -> dict[str, SampleSet]:
    """Return at most `MOST_SETS` sets to look at: the first, the last, and some between."""
    names, most = list(samples), min(MOST_SETS, len(samples))
    chosen = {names[at * (len(names) - 1) // max(1, most - 1)] for at in range(most)}
    return {name: samples[name] for name in names if name in chosen}


def _without(plots: Mapping[str, str], models: Collection[str]) -> dict[str, str]:
    """Return plots, titled `MODEL: TITLE`, but those of some models."""
    return {title: plot for title, plot in plots.items() if title.partition(": ")[0] not in models}


def _score_plots(metrics: Values, known: Mapping[str, Known], pictures: Pictures) -> list[str]:
    plots = []
    for name, one in known.items():
        sets = [(n, score) for n in set_names(metrics) if (score := metrics[n].get(name))]
        found = [(n, s) for n, s in sets if s["value"] is not None]
        rows = [Interval(n, s["value"], s.get("low"), s.get("high"), s.get("blocks") or ()) for n, s in found]
        if rows:
            plot = figures.interval_plot(name, one.wish, rows, one.target)
            plots.append(pictures.plot(f"score-{name}", plot))
    return plots


def evaluator_plots(plots: Mapping[str, str], pictures: Pictures) -> str:
    """Return the plots that evaluators made, each with its title."""
    drawn = (
        f"<div><small>{escape(title)}</small>{pictures.plot(f'plot-{title}', plot)}</div>"
        for title, plot in plots.items()
    )
    return f"<h2>Plots of the evaluators</h2>{many(drawn)}" if plots else ""


def _before_after(run: Run, samples: dict[str, SampleSet], facts: Values, pictures: Pictures) -> str:
    seeds = next(iter(facts.get("seeds", ())), "")
    note = f"The first samples of block 0 (seeds {escape(str(seeds))}), the same seeds for every set"
    if len(samples["base"].shape) == 1:
        real = {} if run.resolved is None else {"real": run.dataset("held-out")}
        plots = point_plots({**samples, **real})
        shown = many(pictures.plot(f"samples-{name}", plot) for name, plot in plots.items())
        note += "; the first two coordinates" * (samples["base"].shape[0] > 1)
    else:
        grid = figures.picture_grid(samples)
        shown = pictures.image("samples", grid, f"samples of {' and '.join(samples)}")
        note += f"; in each group, left to right: {escape(', '.join(samples))}. # is the place in the block"
    return f'<h2>Same seeds, before and after</h2>{shown}<p class="note">{note}.</p>'


def read_curves(directory: Path) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return the curves below `stages/`, by stage and by training in it."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for path in sorted((directory / "stages").rglob(CURVE), key=_natural):
        stage, *inner = path.relative_to(directory / "stages").parent.parts or ("",)
        name = "/".join(inner) or stage
        if ".partial" not in f"{stage}/{name}" and (points := read_curve(path)):
            found.setdefault(stage, {})[name] = points
    return found


def _natural(path: Path) -> list[tuple[str, int]]:
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D+)(\d*)", str(path))]


def thinned(points: Sequence[Mapping[str, float]], quantity: str) -> tuple[list[float], list[float]]:
    """Return steps and values of at most `MOST_POINTS` points, each the mean of its neighbours."""
    pairs = [(p["step"], p[quantity]) for p in points if math.isfinite(p.get(quantity, math.nan))]
    size = math.ceil(len(pairs) / MOST_POINTS) or 1
    groups = [pairs[at : at + size] for at in range(0, len(pairs), size)]
    return [g[-1][0] for g in groups], [statistics.fmean(value for _, value in g) for g in groups]


def _training(directory: Path, pictures: Pictures) -> str:
    parts = []
    for stage, trainings in read_curves(directory).items():
        names = dict.fromkeys(q for points in trainings.values() for q in points[-1] if q != "step")
        lines = {q: [Line(n, *thinned(points, q)) for n, points in trainings.items()] for q in names}
        plots = []
        for quantity, drawn in lines.items():
            stem = quantity.removesuffix("_real").removesuffix("_fake")
            pair = (f"{stem}_real", f"{stem}_fake") if stem != quantity else (quantity,)
            alike = [value for q in pair for one in lines.get(q, ()) for value in one.y]
            plot = figures.line_plot(quantity.replace("_", " "), drawn, alike)
            plots.append(pictures.plot(f"curve-{stage}-{quantity}", plot))
        parts.append(f"<h2>Training: {escape(stage)}</h2>{many(plots)}")
    note = f"At most {MOST_POINTS} points a line, means of their neighbours; real and fake share an axis."
    return "".join(parts) + (f'<p class="note">{note}</p>' if parts else "")


def _selection(directory: Path, pictures: Pictures) -> str:
    parts = []
    for path in sorted((directory / "stages").glob("*/selection.json")):
        stage, history = path.parent.name, json.loads(path.read_text(encoding="utf-8"))
        chosen = next((at for at, c in enumerate(history) if c["chosen"]), None)
        rounds, scores = [c["round"] for c in history], [c["score"] for c in history]
        plot = figures.selection_plot(f"Candidates of {stage}", rounds, scores, chosen)
        rows = (
            f'<tr class="{"chosen" * (at == chosen)}"><td>{c["round"]}</td><td>{escape(c["label"])}'
            f"{' (chosen)' * (at == chosen)}</td><td>{number(c['score'])}</td></tr>"
            for at, c in enumerate(history)
        )
        table = html_table("<tr><th>round</th><th>candidate</th><th>score</th></tr>", *rows)
        parts.append(
            f"<h2>Selection: {escape(stage)}</h2>{pictures.plot(f'selection-{stage}', plot)}"
            '<p class="note">These scores made the choice and are flattered by it.</p>'
            f"<details><summary>{len(history)} candidates</summary>{table}</details>"
        )
    return "".join(parts)


def _what_ran(directory: Path, facts: Values) -> str:
    parts = {"generator": [facts.get("generator", {})], "objectives": facts.get("objectives", ())}
    shown = {name: ", ".join(map(_named, value)) or "none" for name, value in parts.items()}
    shown["dataset"] = _named(facts.get("dataset", {}))
    shown |= {name: _plain(v) for name, v in facts.items() if name not in (*shown, "quantised_to_levels")}
    rows = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in shown.items())
    levels, config = facts.get("quantised_to_levels"), (directory / RUN_FILE).read_text(encoding="utf-8")
    note = f"<p>Generated images were rounded to {levels} grey levels to be scored, but not to be shown.</p>"
    config_file, again = (shlex.quote(str(path)) for path in (directory / RUN_FILE, f"{directory}-again"))
    command = f"genplug run --config {config_file} --out {again}"
    return (
        f"<h2>What was run</h2>{html_table(*rows)}{note if levels else ''}"
        f"<p>To replay it, from where it was run:</p><pre>{escape(command)}</pre>"
        f"<details><summary>{RUN_FILE}</summary><pre>{escape(config)}</pre></details>"
    )


def _named(part: Values) -> str:
    preset = part.get("preset")
    return str(preset if preset not in (None, "none") else part.get("name", "?"))


def _plain(value: Any) -> str:
    items = [f"{name} {inner}" for name, inner in value.items()] if isinstance(value, dict) else value
    return ", ".join(map(str, items)) if isinstance(items, list | tuple) else str(items)


def _reading(metrics: Values) -> str:
    base, floor = ({s["n_generated"] for s in metrics.get(key, {}).values()} for key in ("base", "floor"))
    uneven = " Here it has other sample counts than the generators, which alone moves most scores."
    return (
        '<h2>How to read this</h2><p class="note">The floor is real training data scored as if generated, '
        "against the same held-out data: what is left of a score when generation is perfect. For scores that "
        "look at the training data it is what a perfect copy gets. Its blocks are drawn from one finite set "
        "and overlap, so that their spread is too small rather than too large."
        f"{uneven if floor and base != floor else ''} The spread is the standard deviation over "
        "seed blocks of one trained model: what sampling adds, not what another training would give. A "
        "difference below twice the larger spread (with one block: half the wider interval) is called within "
        "the spread. Differences by block are improved less base for the same seeds.</p>"
    )


def many(plots: Iterable[str]) -> str:
    return f'<div class="many">{"".join(plots)}</div>'


def page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}{figures.STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    os.replace(partial, path)
