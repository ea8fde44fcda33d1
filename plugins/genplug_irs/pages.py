"""What the class-removal experiment leaves: `results.json`, an SVG per extractor, `index.html`."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from genplug import figures
from genplug.report import page, write
from genplug.verdicts import html_table
from genplug_irs.class_removal import MEASURES, plot

SAID = (
    "Half way is how much of the rise from the fewest classes to all is done at half of them: 0.5 for a "
    "linear measure, near 1 for one that saturates. Farthest is how far a mean gets from the share kept."
)


def write_page(directory: Path, found: dict[str, Any]) -> Path:
    """Write everything; returns the page."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    sections = []
    for extractor, one in found["extractors"].items():
        picture = plot(extractor, one)
        name = re.sub(r"[^\w.-]+", "-", extractor)
        (directory / f"{name}.svg").write_text(figures.standalone(picture), encoding="utf-8")
        sections.append(f"<h2>{escape(extractor)}</h2><figure>{picture}</figure>{_summary(one)}{_means(one)}")
    title = f"Class removal on {found['dataset']}"
    facts = (
        f"{found['images']} images, {found['seeds']} random splits into training, reference and test as "
        f"{' : '.join(map(str, found['parts']))}; intervals with an error of {found['alpha_e']:g} per bound."
    )
    body = f'<h1>{escape(title)}</h1><p>{escape(facts)}</p>{"".join(sections)}<p class="note">{SAID}</p>'
    path = directory / "index.html"
    write(path, page(title, body).encode())
    return path


def _summary(one: dict[str, Any]) -> str:
    rows = [
        _row(MEASURES[key], [m["correlation"], m["half_way"], m["farthest"], m["at_all"]])
        for key, m in one["measures"].items()
    ]
    head = "".join(f"<th>{text}</th>" for text in ("", "correlation", "half way", "farthest", "all kept"))
    return html_table(f"<tr>{head}</tr>", *rows)


def _means(one: dict[str, Any]) -> str:
    """Return the means by share kept."""
    columns = ("irs-adjusted", "low", "high", "irs", "coverage", "recall", "fd")
    head = "".join(f"<th>{text}</th>" for text in ("classes kept", *columns))
    rows = [
        _row(f"{share:.0%}", [one["means"][name][at] for name in columns])
        for at, share in enumerate(one["kept"])
    ]
    return html_table(f"<tr>{head}</tr>", *rows)


def _row(name: str, values: list[float]) -> str:
    return f"<tr><td>{escape(name)}</td>{''.join(f'<td>{figures.number(v)}</td>' for v in values)}</tr>"
