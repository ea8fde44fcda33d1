"""Scores as text: values with their uncertainty, and which way is better."""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from genplug.registry import Catalog
from genplug.specs import Better, EvaluatorSpec, arrow
from genplug_cli.terminal import table

MOST_COLUMNS = 5  # models side by side
COLUMNS = ["score", "", "value", "generated", "real", "extractor", "interval"]


def value_text(score: Mapping[str, Any] | None) -> str:
    """Return `value ± spread` over seed blocks, `value [low, high]`, or the value alone."""
    if score is None:
        return ""
    value, low, high, spread = (score.get(key) for key in ("value", "low", "high", "spread"))
    if not _finite(value):
        return "not finite"
    if _finite(spread):
        return f"{_number(value)} ± {_number(spread)}"
    if _finite(low) and _finite(high) and low != high:
        return f"{_number(value)} [{_number(low)}, {_number(high)}]"
    return _number(value)


def better_text(measure: str, catalog: Catalog) -> str:
    """Return an arrow that says where better is, for a score by its name in an evaluator's spec."""
    directions = directions_of(catalog)
    return arrow(directions[measure]) if measure in directions else ""


def directions_of(catalog: Catalog) -> dict[str, Better]:
    """Return what is better, for every score of every evaluator."""
    specs = [entry.spec for entry in catalog.entries["evaluator"].values()]
    return {
        name: way for spec in specs if isinstance(spec, EvaluatorSpec) for name, way in spec.scores.items()
    }


def run_table(metrics: Mapping[str, Any], catalog: Catalog) -> str:
    """Return the scores of a run: a row for each score, a column for each model and the floor.

    Of many models, a row for each, the scores in as many tables as the width asks for.
    """
    columns = [name for name in metrics if name != "run"]
    measures = {
        name: score.get("measure", name) for column in columns for name, score in metrics[column].items()
    }
    if len(columns) > MOST_COLUMNS:
        return _by_model(metrics, columns, measures, catalog) + _legend(metrics, columns)
    rows = [
        [name, better_text(measure, catalog), *(value_text(metrics[c].get(name)) for c in columns)]
        for name, measure in measures.items()
    ]
    return table(rows, ["score", "", *columns]) + _legend(metrics, columns)


def _by_model(
    metrics: Mapping[str, Any], models: Sequence[str], measures: Mapping[str, str], catalog: Catalog
) -> str:
    """Return a row for each model, in tables that fit the terminal."""
    room = shutil.get_terminal_size((110, 24)).columns - max(map(len, models))
    tables: list[list[list[str]]] = []
    for name, measure in measures.items():
        head = f"{name} {better_text(measure, catalog)}".rstrip()
        column = [head, *(value_text(metrics[model].get(name)) for model in models)]
        width = max(map(len, column)) + 2
        if not tables or width > room:
            tables.append([["model", *models]])
            room = shutil.get_terminal_size((110, 24)).columns - max(map(len, models))
        tables[-1].append(column)
        room -= width
    return "\n\n".join(table(list(zip(*columns, strict=True))) for columns in tables)


def _legend(metrics: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Say what the uncertainties are, where there are any."""
    scores = [score for column in columns for score in metrics[column].values()]
    notes = ["floor: real training data against the same held-out data"] if "floor" in columns else []
    if blocks := next((len(score["blocks"]) for score in scores if score.get("blocks")), 0):
        notes.append(f"±: standard deviation over {blocks} seed blocks")
    if any(score.get("interval") and "spread" not in score for score in scores):
        notes.append("[low, high]: the evaluator's interval, named in metrics.json")
    return "\n\n" + "\n".join(notes) if notes else ""


def set_table(scores: Mapping[str, Mapping[str, Any]], catalog: Catalog) -> str:
    """Return the scores of one sample set."""
    return table(
        [[str(row[column]) for column in COLUMNS] for row in set_rows(scores, catalog, value_text)],
        COLUMNS,
    )


def set_csv(scores: Mapping[str, Mapping[str, Any]], catalog: Catalog) -> str:
    """Return the scores of one sample set as CSV, numbers in full."""
    text = io.StringIO()
    columns = ["score", "better", "value", "low", "high", *COLUMNS[3:]]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(set_rows(scores, catalog, lambda score: score["value"]))
    return text.getvalue().rstrip("\n")


def set_rows(
    scores: Mapping[str, Mapping[str, Any]],
    catalog: Catalog,
    value: Callable[[Mapping[str, Any]], Any],
) -> list[dict[str, Any]]:
    """Return a row for each score."""
    directions = directions_of(catalog)
    return [
        {
            "score": name,
            "": better_text(score["measure"], catalog),
            "better": directions.get(score["measure"], ""),
            "value": value(score),
            "low": score["low"],
            "high": score["high"],
            "generated": score["n_generated"],
            "real": score["n_real"],
            "extractor": score["extractor"],
            "interval": score["interval"],
        }
        for name, score in scores.items()
    ]


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: float) -> str:
    return f"{value:.4g}"
