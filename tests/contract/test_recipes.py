"""Every installed recipe is planned, runs in small, and stands in the documentation as measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from genplug.recipes.arms import find_order, plan_arms
from genplug.recipes.running import run_recipe
from genplug.registry import catalog

DOCS = Path(__file__).parent.parent.parent / "docs"
NAMES = sorted(one.recipe.name for one in catalog().experiments)


def test_recipes_are_there_and_readable() -> None:
    assert [broken.error for broken in catalog().broken if "register_recipes" in broken.error] == []
    assert len(NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_can_be_planned(name: str) -> None:
    """Its arms resolve, its models exist, and its scores are those of evaluators that judge their arms."""
    asked = find_order(name)
    arms = plan_arms(asked)
    tests = [(cell, claim.score) for claim in asked.form.claim for cell in claim.cells]
    tests += [(row, score) for table in asked.form.table for row in table.rows for score in table.scores]
    for cell, score in tests:
        judges = arms[cell.partition(":")[0]].evaluators
        scores = [known for part in judges for known in getattr(part.entry.spec, "scores", ())]
        assert any(score == known or score.startswith(f"{known}-") for known in scores), f"{cell}: {score}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_in_small(name: str, tmp_path: Path) -> None:
    """One seed, tiny: every arm runs to its end; what the claims come to, if anything, means nothing."""
    small = [("recipe.seeds", 1), ("recipe.tiny", True)]
    result = run_recipe(name, tmp_path / "x", sets=small)
    assert len(result.data["claims"]) == len(find_order(name).form.claim)
    assert (tmp_path / "x/recipe.md").read_text() == result.page


def test_every_recipe_stands_in_the_documentation_as_it_was_measured() -> None:
    index = (DOCS / "recipes.md").read_text()
    assert sorted(re.findall(r"\(recipes/([\w-]+)\.md\)", index)) == NAMES
    for one in catalog().experiments:
        name, summary, minutes = one.recipe.name, one.recipe.summary, one.recipe.minutes
        assert f"| [{name}](recipes/{name}.md) | {summary} | {minutes:g} |\n" in index
    for name in NAMES:
        page, form = (DOCS / "recipes" / f"{name}.md").read_text(), find_order(name).form
        assert page.startswith(f"# {name}\n")
        assert f"genplug run --recipe {name}\n" in page, "measured in full, without options"
        verdicts = re.findall(r"^- \*\*(.+?)\*\*: (.+?) \(`", page, re.M)
        assert [says for _, says in verdicts] == [claim.says for claim in form.claim]
