"""Tables and claims of a recipe, from the scores of all seeds. Pure functions of numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from genplug.recipes.form import Cell, Claim, Table

Lookup = Callable[[Cell, str], float | None]  # ARM:MODEL and score -> value; one for each seed


def table_of(table: Table, seeds: Sequence[Lookup]) -> dict[str, Any]:
    """Return a table as plain data: mean and standard deviation over seeds, and each seed's value."""
    rows = [
        {
            "row": row,
            "values": {score: over_seeds(look(row, score) for look in seeds) for score in table.scores},
        }
        for row in table.rows
    ]
    return {"title": table.title, "scores": list(table.scores), "rows": rows}


def over_seeds(found: Iterable[float | None]) -> dict[str, Any] | None:
    """Return mean, spread (of two seeds at least) and the values; None where a seed has none."""
    values = list(found)
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "spread": spread, "seeds": known}


def judge_claim(claim: Claim, seeds: Sequence[Lookup]) -> dict[str, Any]:
    """Return the verdict on a claim as plain data: what each seed shows, and the sum of it."""
    found = []
    for number, look in enumerate(seeds):
        values = {cell: look(cell, claim.score) for cell in claim.cells}
        found.append({"seed": number, "values": values, "shows": holds(claim, values)})
    judged = [one["shows"] for one in found if one["shows"] is not None]
    return {
        "says": claim.says,
        "score": claim.score,
        "test": test_of(claim),
        "verdict": verdict(judged.count(True), len(judged)),
        "seeds": found,
    }


def verdict(shown: int, of: int) -> str:
    """Return how many seeds show a claim, in words."""
    if not of:
        return "cannot be judged: the score is missing"
    words = "shows" if shown == of else "shows in part" if shown else "does not show"
    return f"{words} ({shown} of {of} seed{'s' * (of > 1)})"


def holds(claim: Claim, values: Mapping[Cell, float | None]) -> bool | None:
    """Return whether a claim holds for one seed; None if a value is missing."""
    if any(value is None or not math.isfinite(value) for value in values.values()):
        return None
    numbers = {cell: value for cell, value in values.items() if value is not None}
    if claim.rising or claim.falling:
        pairs = pairwise(numbers[cell] for cell in claim.rising or claim.falling)
        return all(a < b if claim.rising else a > b for a, b in pairs)
    other = next(value for value in (claim.below, claim.above, claim.near) if value is not None)
    reference = numbers[other] if isinstance(other, str) else other
    own, least = numbers[claim.of or ""], claim.by * abs(reference)
    if claim.near is not None:
        return abs(own - reference) <= least
    gain = reference - own if claim.below is not None else own - reference
    return gain >= least and gain > 0


def test_of(claim: Claim) -> str:
    """Return the test of a claim in short: `energy: ddo:improved below base:improved by 20 %`."""
    for word in ("rising", "falling"):
        if cells := getattr(claim, word):
            return f"{claim.score}: {word} over {', '.join(cells)}"
    word, other = next((w, v) for w in ("below", "above", "near") if (v := getattr(claim, w)) is not None)
    share = f"{100 * claim.by:g} %"
    margin = f" (within {share})" if word == "near" else f" by {share}" if claim.by else ""
    return f"{claim.score}: {claim.of} {word} {other if isinstance(other, str) else f'{other:g}'}{margin}"
