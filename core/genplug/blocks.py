"""Scores over seed blocks: mean and spread."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from genplug.protocols import Score


def over_blocks(blocks: Sequence[Mapping[str, Score]]) -> dict[str, dict[str, Any]]:
    """Join the scores of seed blocks: mean, and mean -+ 2 standard deviations of a block.

    With one block, the evaluator's own interval is kept.
    """
    names = dict.fromkeys(name for block in blocks for name in block)
    return {name: _joined([block[name] for block in blocks if name in block]) for name in names}


def plain_score(score: Score) -> dict[str, Any]:
    """Return a score as JSON has it, without its plots; numbers that are not finite become null."""
    values = dataclasses.asdict(dataclasses.replace(score, plots={}))
    del values["plots"]
    return {key: _finite(value) for key, value in values.items()}


def drawn(scores: Mapping[str, Score]) -> dict[str, str]:
    """Return the plots of all scores by title; scores of one evaluator may share one."""
    return {title: plot for score in scores.values() for title, plot in score.plots.items()}


def _joined(scores: Sequence[Score]) -> dict[str, Any]:
    values = [score.value for score in scores]
    joined = plain_score(scores[0])
    joined["seeds"] = ", ".join(dict.fromkeys(score.seeds for score in scores if score.seeds))
    if len(values) > 1:
        joined |= {key: _finite(value) for key, value in _spread(values).items()}
        joined |= {"interval": f"mean -+ 2 standard deviations of {len(values)} seed blocks"}
        joined |= {"blocks": [_finite(value) for value in values]}
    return joined


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not all(map(math.isfinite, values)):
        return dict.fromkeys(("value", "low", "high", "spread"), math.nan)
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    return {"value": mean, "low": mean - 2 * spread, "high": mean + 2 * spread, "spread": spread}


def _finite(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
