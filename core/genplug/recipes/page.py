"""A recipe's result as Markdown, as it stands in the documentation, and its cells as text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genplug.specs import arrow

Values = Mapping[str, Any]


def markdown(data: Values) -> str:
    """Return the page of a finished recipe."""
    what = f"{data['summary'].rstrip('.')}{_source(data)}."
    parts = [f"# {data['recipe']}", what, f"```sh\n{command(data)}\n```"]
    parts += [text for table in data["tables"] for text in (f"## {table['title']}", _table(table, data))]
    parts += [*_reading(data), *_claims(data["claims"])]
    parts += ["## Notes", data["notes"].strip()] if data["notes"] else []
    parts += ["## What was run", _arms(data)]
    return "\n\n".join(parts) + "\n"


def command(data: Values) -> str:
    """Return the command that repeats a recipe."""
    own = {"recipe.tiny": True} if data["tiny"] else {}
    sets = [f"--set {key}={_setting(value)}" for key, value in {**own, **data["options"]}.items()]
    return " ".join(["genplug run --recipe", data["recipe"], *sets])


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace(" ", "")


def table_rows(table: Values, data: Values) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table as texts."""
    head = ["", *(f"{name} {arrow(data['scores'][name]['better'])}".rstrip() for name in table["scores"])]
    rows = [
        [row["row"].replace(":", ": "), *(cell_text(row["values"][name]) for name in table["scores"])]
        for row in table["rows"]
    ]
    return head, rows


def cell_text(cell: Values | None) -> str:
    """Return `mean ± spread`; a dash where a score is missing."""
    if cell is None:
        return "–"
    if cell["spread"] is None or not math.isfinite(cell["spread"]):
        return f"{cell['mean']:.4g}"
    return f"{cell['mean']:.4g} ± {cell['spread']:.2g}"


def reading(data: Values) -> str:
    """Say how the tables are to be read: over how many seeds, on how many samples."""
    count = len(data["seeds"])
    arms = data["arms"].values()
    sizes = ", ".join(dict.fromkeys(f"{arm['blocks']} × {arm['samples']}" for arm in arms))
    several = f"Mean ± standard deviation over {count} seeds, each a run of its own"
    spread = several if count > 1 else "One seed"
    return f"{spread}; {sizes} samples of a model. Floor: real data as if generated."


def _source(data: Values) -> str:
    return f" ({data['source']})" if data["source"] else ""


def _table(table: Values, data: Values) -> str:
    head, rows = table_rows(table, data)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reading(data: Values) -> Iterable[str]:
    if data["tables"]:
        yield reading(data)


def _claims(claims: Sequence[Values]) -> Iterable[str]:
    if claims:
        yield "## Claims"
        yield "\n".join(
            f"- **{one['verdict']}**: {one['says']} (`{one['test']}`; {seeds_text(one)})" for one in claims
        )


def seeds_text(claim: Values) -> str:
    """Return the values behind a verdict, seed by seed."""
    return "; ".join(
        f"seed {one['seed']}: {' / '.join(_number(value) for value in one['values'].values())}"
        for one in claim["seeds"]
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _arms(data: Values) -> str:
    lines = [
        f"- `{name}`: {' → '.join([arm['generator'], *arm['objectives']])} on {arm['dataset']}"
        for name, arm in data["arms"].items()
    ]
    seeds = ", ".join(map(str, data["seeds"]))
    lines.append(
        f"\ngenplug {data['version']}, seeds {seeds}; about {data['minutes']:g} minutes on two cores."
    )
    return "\n".join(lines)
