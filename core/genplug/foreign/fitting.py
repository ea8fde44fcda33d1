"""Whether tensors are those that a network expects, and which may only have another name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

Shape = tuple[int, ...]
MOST_NAMED = 6
MOST_COMPARED = 200  # names compared letter by letter: takes quadratic time


def misfits(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> str:
    """Return missing, renamed, extra and misshapen tensors as one line; empty if all fit."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    renamed = _renamed({name: expected[name] for name in missing}, {name: found[name] for name in extra})
    problems = [
        *(f"{old} is perhaps {new}" for new, old in renamed.items()),
        *(f"missing {name}" for name in missing if name not in renamed),
        *(f"extra {name}" for name in extra if name not in renamed.values()),
        *_misshapen(found, expected),
    ]
    more = f" and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
    return "; ".join(problems[:MOST_NAMED]) + more


def _misshapen(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> Sequence[str]:
    return [
        f"{name} is {found[name]}, not {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]


def _renamed(missing: Mapping[str, Shape], extra: Mapping[str, Shape]) -> dict[str, str]:
    """Return expected name -> name in the file, for similar names of equal shape."""
    pairs: dict[str, str] = {}
    for name, shape in list(missing.items())[:MOST_COMPARED]:
        free = [other for other in extra if extra[other] == shape and other not in pairs.values()]
        close = get_close_matches(name, free[:MOST_COMPARED], n=1, cutoff=0.6)
        if close:
            pairs[name] = close[0]
    return pairs
