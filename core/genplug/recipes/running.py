"""Doing a recipe: every arm under every seed, then its tables and verdicts.

`run_recipe("ddo-fractal", sets=[("recipe.seeds", 1)]).page` is the result as Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from accelerate import PartialState

from genplug import pipeline
from genplug.errors import GenplugError, RunDirectoryError
from genplug.log import Log, Silent
from genplug.parts import Resolved
from genplug.paths import RUN_FILE
from genplug.recipes.arms import Order, directory_of, find_order, judged_name, plan_arms, resolve_arm
from genplug.recipes.form import Arm, Cell
from genplug.recipes.judging import Lookup, judge_claim, table_of
from genplug.recipes.page import markdown
from genplug.specs import Better, EvaluatorSpec
from genplug.stages import strict_json, write_json

RESULT_FILE, PAGE_FILE, COPY_FILE = "recipe.json", "recipe.md", "recipe.toml"


@dataclass(frozen=True)
class RecipeResult:
    """What a recipe leaves: its directory, `recipe.json` as a dictionary, and its page."""

    directory: Path
    data: dict[str, Any]
    page: str


def run_recipe(
    name: str,
    out: str | Path | None = None,
    *,
    sets: Sequence[tuple[str, Any]] = (),
    force: bool = False,
    log: Log | None = None,
) -> RecipeResult:
    """Run a recipe; the same call with the same `out` continues where it stopped.

    `sets` are options as of `--set`: `("recipe.seeds", 1)`, `("recipe.tiny", True)`, and those of all arms.
    """
    asked = find_order(name, sets)
    planned = plan_arms(asked)
    directory = Path(out) if out is not None else default_directory(asked)
    check_place(directory)
    work = _Work(asked, directory, force, log or Silent())
    metrics = [{arm.name: work.metrics(arm, seed) for arm in asked.form.arm} for seed in range(asked.seeds)]
    data = result_of(asked, planned, metrics)
    page = markdown(data)
    if PartialState().is_main_process:
        write_json(directory / RESULT_FILE, strict_json(data))
        (directory / PAGE_FILE).write_text(page, encoding="utf-8")
        (directory / COPY_FILE).write_text(asked.path.read_text(encoding="utf-8"), encoding="utf-8")
    return RecipeResult(directory, data, page)


@dataclass(frozen=True)
class _Work:
    """Where and how the arms are run."""

    asked: Order
    out: Path
    force: bool
    log: Log

    def metrics(self, arm: Arm, seed: int) -> dict[str, Any]:
        """Run one arm under one seed, or what is left of it; return its `metrics.json`."""
        self.log.info(f"seed {seed}, arm {arm.name}")
        resolved = resolve_arm(self.asked, arm, seed, self.out)
        place = directory_of(self.out, seed, arm.name)
        try:
            return pipeline.run(resolved=resolved, out=place, force=self.force, log=self.log).metrics
        except GenplugError as error:
            raise type(error)(f"seed {seed}, arm {arm.name!r}: {error}") from error


def default_directory(asked: Order) -> Path:
    """Return where a recipe goes that names no place."""
    return Path("runs") / f"recipe-{asked.name}{'-tiny' * asked.tiny}"


def check_place(directory: Path) -> None:
    """Refuse a folder that holds something else than a recipe's runs."""
    if (directory / RUN_FILE).is_file():
        raise RunDirectoryError(f"{directory} is a run directory; choose another --out for the recipe")
    known = (RESULT_FILE, PAGE_FILE, COPY_FILE)
    there = sorted(path.name for path in directory.glob("*")) if directory.is_dir() else []
    foreign = [name for name in there if name not in known and not name.startswith("seed-")]
    if foreign:
        raise RunDirectoryError(
            f"{directory} holds {foreign[0]!r}: it is no recipe's directory; choose another --out"
        )


def result_of(
    asked: Order, planned: Mapping[str, Resolved], metrics: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return `recipe.json` from the metrics of every arm under every seed."""
    form = asked.form
    seeds = [_lookup(planned, found) for found in metrics]
    named = [score for table in form.table for score in table.scores]
    return {
        "recipe": asked.name,
        "summary": form.summary,
        "source": form.source,
        "notes": form.notes,
        "minutes": form.minutes,
        "seeds": list(range(asked.seeds)),
        "tiny": asked.tiny,
        "options": {key: value for key, value in asked.options if not key.startswith("runtime.")},
        "version": metadata.version("genplug"),
        "arms": {name: _arm_facts(name, resolved, metrics) for name, resolved in planned.items()},
        "scores": {name: _score_facts(name, metrics, planned) for name in dict.fromkeys(named)},
        "tables": [table_of(table, seeds) for table in form.table],
        "claims": [judge_claim(claim, seeds) for claim in form.claim],
    }


def _lookup(planned: Mapping[str, Resolved], found: Mapping[str, Any]) -> Lookup:
    """Return how to find a value in one seed's metrics by ARM:MODEL and score."""

    def look(cell: Cell, score: str) -> float | None:
        arm, _, model = cell.partition(":")
        scores = found[arm].get(judged_name(planned[arm], model), {})
        value = scores.get(score, {}).get("value")
        return None if value is None else float(value)

    return look


def _arm_facts(name: str, resolved: Resolved, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what an arm is: components, samples, its folder under each seed."""
    return {
        "generator": resolved.generator.name,
        "objectives": [part.name for part in resolved.objectives],
        "dataset": resolved.dataset.name,
        "samples": resolved.run.samples,
        "blocks": resolved.run.blocks,
        "runs": [directory_of(Path(), seed, name).as_posix() for seed in range(len(metrics))],
    }


def _score_facts(
    name: str, metrics: Sequence[Mapping[str, Any]], planned: Mapping[str, Resolved]
) -> dict[str, Any]:
    """Return of a score which way is better, with which features, on how many samples."""
    models = [scores for arm in metrics[0].values() for key, scores in arm.items() if key != "run"]
    found: dict[str, Any] = next((scores[name] for scores in models if name in scores), {})
    specs = [e.spec for e in next(iter(planned.values())).catalog.entries["evaluator"].values()]
    better: dict[str, Better] = {}
    for spec in specs:
        better |= spec.scores if isinstance(spec, EvaluatorSpec) else {}
    keys = ("extractor", "n_generated", "n_real")
    return {"better": better.get(found.get("measure", "")), **{key: found.get(key) for key in keys}}
