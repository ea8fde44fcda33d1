"""Options that several commands share, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; warnings and errors stay.")]
Extractors = Annotated[
    list[str] | None,
    typer.Option("--extractor", metavar="NAME", help="Feature extractor; repeat for several."),
]
Evaluators = Annotated[
    list[str] | None,
    typer.Option("--evaluator", metavar="NAME", help="Evaluator; repeat for several."),
]


def assignments(texts: Sequence[str] | None) -> list[tuple[str, Any]]:
    """Return `--set KEY=VALUE` options as keys and values."""
    from genplug.config import parse_set

    return [parse_set(text) for text in texts or ()]


def file_values(path: Path | None) -> dict[str, Any]:
    """Return the content of `--config`."""
    from genplug.config import read_toml

    return read_toml(path) if path is not None else {}


def setting(value: Any) -> str:
    """Return a value as it is written after `--set KEY=`; a component as its name."""
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, Mapping):
        return str(value.get("name", dict(value)))
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
