"""Recipes: experiments in a TOML file that `genplug run --recipe NAME` repeats.

A recipe has arms (runs that may use each other's results), seeds, tables of their scores and claims
about them, which are judged and reported whatever comes out. docs/recipes.md has the format. Each file here
has one purpose: `form` the file's format, `arms` what it makes run, `running` doing it, `judging` its
tables and claims, `page` the result as Markdown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genplug import toml
from genplug.specs import Recipe


def recipes_from(folder: Path | str) -> tuple[Recipe, ...]:
    """Return the recipes in a plugin's folder (`NAME.toml` each), for its `register_recipes` hook.

    Only what a listing needs is read; the rest is checked when a recipe is used. A file that cannot be
    read is listed as broken and spoils no other.
    """
    return tuple(_recipe(path) for path in sorted(Path(folder).glob("*.toml")))


def _recipe(path: Path) -> Recipe:
    values: dict[str, Any] = {}
    problem = ""
    try:
        values = toml.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problem = f"{path}: {' '.join(str(error).split())}"
    summary, minutes = values.get("summary"), values.get("minutes", 0)
    if not problem and not (isinstance(summary, str) and isinstance(minutes, int | float)):
        problem = f"{path}: expected summary = TEXT and minutes = NUMBER"
    if problem:
        return Recipe(name=path.stem, summary="", path=str(path), problem=problem)
    return Recipe(name=path.stem, summary=str(summary), path=str(path), minutes=float(minutes))
