"""`genplug run --recipe`: an experiment instead of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genplug_cli import terminal

if TYPE_CHECKING:
    from genplug.parts import Resolved
    from genplug.recipes.arms import Order
    from genplug.registry import Experiment


def recipe_data(one: Experiment) -> dict[str, Any]:
    """Return a recipe in full, as JSON has it."""
    from genplug.recipes.form import read_form

    form = read_form(Path(one.recipe.path)).model_dump(mode="json")
    return {"name": one.recipe.name, "package": str(one.package), "path": one.recipe.path, **form}


def recipe_text(one: Experiment) -> str:
    """Return what a recipe is: arms, tables, claims, and its command."""
    from genplug.recipes.form import read_form
    from genplug.recipes.judging import test_of

    form = read_form(Path(one.recipe.path))
    rows = [("source", form.source), ("seeds", str(form.seeds)), ("minutes", f"about {form.minutes:g}")]
    rows += [("arm", arm.name) for arm in form.arm]
    rows += [("table", f"{table.title}: {', '.join(table.scores)}") for table in form.table]
    rows += [("claim", f"{claim.says} ({test_of(claim)})") for claim in form.claim]
    rows += [("notes", " ".join(form.notes.split())), ("file", one.recipe.path)]
    facts = terminal.table([(name, value) for name, value in rows if value])
    head = f"recipe {one.recipe.name} ({one.package})\n{form.summary}"
    return f"{head}\n\n{facts}\n\nexample\n  genplug run --recipe {one.recipe.name}"


def check_alone(flags: Mapping[str, Any]) -> None:
    """Refuse flags that a recipe answers itself."""
    from genplug.errors import ConfigError

    if given := [name for name, value in flags.items() if value]:
        raise ConfigError(
            f"a recipe says what is run: {given[0]} cannot stand beside --recipe (--out, --set, --plan can)"
        )


def show_plan(name: str, sets: Sequence[tuple[str, Any]], as_json: bool) -> None:
    """Print what a recipe would run; nothing heavy is imported."""
    from genplug.planning import plan
    from genplug.recipes.arms import find_order, plan_arms

    asked = find_order(name, sets)
    arms = plan_arms(asked)
    if as_json:
        plans = {arm: {**plan(resolved), "out": None} for arm, resolved in arms.items()}
        terminal.say_json({"recipe": asked.name, "seeds": asked.seeds, "arms": plans})
    else:
        terminal.say(_plan_text(asked, arms))


def _plan_text(asked: Order, arms: Mapping[str, Resolved]) -> str:
    from genplug.chains import models

    minutes = asked.form.minutes * asked.seeds / asked.form.seeds
    head = (
        f"{asked.name}: {asked.form.summary}\n{asked.seeds} seeds, about {minutes:.2g} minutes on two cores"
    )
    rows = [
        [
            name,
            " > ".join([resolved.generator.name, *(part.name for part in resolved.objectives)]),
            resolved.dataset.name,
            f"{resolved.run.samples} x {resolved.run.blocks}",
            ", ".join([*models(resolved), "floor"]),
        ]
        for name, resolved in arms.items()
    ]
    table = terminal.table(rows, ("arm", "what", "data set", "samples", "models"))
    claims = "\n".join(f"claim: {claim.says}" for claim in asked.form.claim)
    return "\n\n".join(filter(None, [head, table, claims]))


def run(
    name: str, out: Path | None, sets: Sequence[tuple[str, Any]], force: bool, as_json: bool, quiet: bool
) -> None:
    """Do a recipe and print its tables and verdicts."""
    from genplug.recipes.running import PAGE_FILE, RESULT_FILE, run_recipe

    result = run_recipe(name, out, sets=sets, force=force, log=terminal.log(quiet))
    if as_json:
        terminal.say_json({**result.data, "directory": str(result.directory)})
        return
    terminal.say(result_text(result.data))
    terminal.say()
    for file in (RESULT_FILE, PAGE_FILE):
        terminal.say(str(result.directory / file))


def result_text(data: Mapping[str, Any]) -> str:
    """Return tables and verdicts for a terminal."""
    from genplug.recipes.page import reading, seeds_text, table_rows

    parts = []
    for table in data["tables"]:
        head, rows = table_rows(table, data)
        parts.append(f"{table['title']}\n{terminal.table(rows, head, indent='  ')}")
    parts += [reading(data)] if data["tables"] else []
    parts += [
        f"{one['verdict']}: {one['says']}\n  {one['test']}; {seeds_text(one)}" for one in data["claims"]
    ]
    parts += [data["notes"].strip()] if data["notes"] else []
    return "\n\n".join(parts)
