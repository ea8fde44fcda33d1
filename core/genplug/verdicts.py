"""What happened to each score: improved against base against floor, in a sentence and in a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from genplug.figures import number
from genplug.runtime import Run
from genplug.specs import Better, EvaluatorSpec

ARROWS = {"better": "▲", "worse": "▼", "within": "≈", "unknown": "?", "alone": "·"}
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What happened to one score: a key of `ARROWS`, and one sentence."""

    kind: str
    text: str


@dataclass(frozen=True)
class Known:
    """What the evaluator that made a score says of it."""

    better: Better | None = None
    first: bool = False  # of its evaluator's scores: a headline

    @property
    def target(self) -> float | None:
        """Return the value to be close to, if that is what is wanted."""
        return None if self.better is None or isinstance(self.better, str) else float(self.better)

    @property
    def wish(self) -> str:
        """Return which values are better."""
        if self.target is not None:
            return f"closer to {self.target:g} is better"
        return f"{self.better} is better" if self.better else "direction unknown"

    def cost(self, value: float) -> float:
        """Return a number that is lower for better values."""
        if self.target is not None:
            return abs(value - self.target)
        return -value if self.better == "higher" else value


def find_score(run: Run, name: str) -> Known:
    """Look a score `SCORE` or `SCORE-EXTRACTOR` up in the catalog; the longest name that fits wins."""
    specs = [entry.spec for entry in run.catalog.entries["evaluator"].values()]
    used = {part.name for part in run.resolved.evaluators} if run.resolved else set()
    found = [
        (spec.name in used, len(score), Known(better, score == next(iter(spec.scores))))
        for spec in specs
        if isinstance(spec, EvaluatorSpec)
        for score, better in spec.scores.items()
        if name == score or name.startswith(f"{score}-")
    ]
    return max(found, key=lambda item: item[:2])[2] if found else Known()


def judge_score(name: str, metrics: Values, known: Known) -> Verdict:
    """Say in one sentence what happened to a score: improved against base against floor."""
    models = ("base", "improved", "floor", "control")
    base, improved, floor, control = (metrics.get(key, {}).get(name) for key in models)
    b, i, f, c = (score["value"] if score else None for score in (base, improved, floor, control))
    ground = ("no floor" if f is None else f"floor {number(f)}") + (
        f", control {number(c)}" if control else ""
    )
    if base is None or improved is None:
        alone = number(i if base is None else b)
        return Verdict("alone", f"{name}: {alone}, nothing to compare it with ({ground})")
    head = f"{name}: {number(b)} → {number(i)}"
    if b is None or i is None or known.better is None:
        why = "no installed evaluator says what is better" if known.better is None else "no comparison"
        return Verdict("unknown", f"{head}, {why} ({ground})")
    gain, (noise, source) = known.cost(b) - known.cost(i), noise_of(base, improved)
    if gain == 0:
        return Verdict("within", f"{head}, no difference ({ground})")
    word = "better" if gain > 0 else "worse"
    if noise is None:
        return Verdict("unknown", f"{head}, {word}, but a block without an interval shows nothing ({ground})")
    if abs(gain) < noise:
        size = f"{number(abs(gain))} is less than {source}, {number(noise)}"
        return Verdict("within", f"{head}, within the spread: {size} ({ground})")
    return Verdict(word, f"{head}, {word}: {excess(known, b, i, f)}({ground})")


def noise_of(base: Values, improved: Values) -> tuple[float | None, str]:
    """Return what chance explains: twice the larger spread, or else half the wider interval; and its name."""
    spreads = [score["spread"] for score in (base, improved) if score.get("spread") is not None]
    if len(spreads) == 2:
        return 2 * max(spreads), "2 × spread"
    ends = [(score.get("low"), score.get("high")) for score in (base, improved)]
    halves = [(high - low) / 2 for low, high in ends if low is not None and high is not None]
    return (max(halves), "half the interval") if halves and max(halves) > 0 else (None, "")


def excess(known: Known, base: float, improved: float, floor: float | None) -> str:
    """Say how the distance to the floor changed."""
    if floor is None:
        return f"difference {number(abs(improved - base))} "
    before, after = (known.cost(value) - known.cost(floor) for value in (base, improved))
    what = "excess over the floor" if known.better == "lower" else "gap to the floor"
    if before <= 0:
        return "base was at the floor or past it "
    if after <= 0:
        return "now at the floor or past it "
    return f"{what} {'down' if after < before else 'up'} {100 * abs(after / before - 1):.0f} % "


def score_table(metrics: Values, verdicts: Mapping[str, Verdict], known: Mapping[str, Known]) -> str:
    """Return one row per score, one column per sample set."""
    columns, rows = set_names(metrics), []
    notes: list[str] = []  # of intervals, each once
    for name, verdict in verdicts.items():
        found = [metrics[column].get(name) for column in columns]
        lead = next(score for score in found if score)
        cells = [f"<td>{_cell(score, notes)}</td>" for score in found]
        said = f"<b>{ARROWS[verdict.kind]} {verdict.kind}</b>{_by_block(metrics, name)}"
        rows.append(
            f"<tr><th>{escape(name)}<br><small>{known[name].wish}</small></th>{''.join(cells)}"
            f'<td class="{verdict.kind}">{said}</td>'
            f"<td>{_counts(found)}<small>{lead['n_real']} real</small></td>"
            f"<td>{escape(lead.get('extractor') or '–')}</td></tr>"
        )
    head = "".join(f"<th>{escape(name)}</th>" for name in (*columns, "verdict", "samples", "extractor"))
    foot = "<br>".join(f"<sup>{at}</sup> {escape(note)}" for at, note in enumerate(notes, 1))
    return f'{html_table(f"<tr><th>score</th>{head}</tr>", *rows)}<p class="note">{foot}</p>'


def set_names(metrics: Values) -> list[str]:
    """Return the names of the sample sets: base, improved, control, any others, floor."""
    found = [name for name in metrics if name != "run" and metrics[name]]
    return sorted(found, key=lambda name: {"base": 0, "improved": 1, "control": 2, "floor": 4}.get(name, 3))


def paired(metrics: Values, name: str) -> list[float]:
    """Return improved less base in each seed block: equal seeds, so that sampling noise largely cancels."""
    both = [metrics.get(key, {}).get(name) or {} for key in ("base", "improved")]
    blocks = zip(*(score.get("blocks") or () for score in both), strict=False)
    return [i - b for b, i in blocks if b is not None and i is not None]


def _by_block(metrics: Values, name: str) -> str:
    differences = ", ".join(f"{'+' * (d > 0)}{number(d)}" for d in paired(metrics, name))
    return f"<small>by block {differences}</small>" if differences else ""


def _cell(score: Values | None, notes: list[str]) -> str:
    if score is None:
        return "–"
    low, high, note = score.get("low"), score.get("high"), str(score.get("interval") or "")
    if low is None or high is None or low == high:
        return number(score["value"])
    if note and note not in notes:
        notes.append(note)
    mark = f"<sup>{notes.index(note) + 1}</sup>" if note else ""
    return f"{number(score['value'])}<small>{number(low)} to {number(high)}{mark}</small>"


def _counts(found: Iterable[Values | None]) -> str:
    texts = [f"{s.get('n_generated', '–')} × {len(s.get('blocks') or [0])}" for s in found if s]
    return escape(" / ".join(dict.fromkeys(texts)))


def verdict_list(verdicts: Mapping[str, Verdict], known: Mapping[str, Known]) -> str:
    """Return the sentences of the headline scores, the others folded away."""
    top = [name for name in verdicts if known[name].first] or list(verdicts)
    rest = [verdicts[name] for name in verdicts if name not in top]
    counts = ", ".join(f"{n} {kind}" for kind in ARROWS if (n := [v.kind for v in rest].count(kind)))
    more = f"<details><summary>Other scores: {counts}</summary>{_sentences(rest)}</details>" if rest else ""
    return _sentences(verdicts[name] for name in top) + more


def _sentences(verdicts: Iterable[Verdict]) -> str:
    items = (f'<li class="{v.kind}"><b>{ARROWS[v.kind]}</b> {escape(v.text)}.</li>' for v in verdicts)
    return f'<ul class="verdicts">{"".join(items)}</ul>'


def html_table(*rows: str) -> str:
    """Return rows as a table that scrolls sideways where it is too wide."""
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'
