"""Recipes: arms under seeds, tables and claims, whatever they come to; and the files that say so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from genplug import recipes_from
from genplug.errors import ConfigError, GenplugError, UnknownNameError
from genplug.recipes.arms import find_order, merged, plan_arms
from genplug.recipes.form import Claim, read_form
from genplug.recipes.judging import holds, over_seeds, verdict
from genplug.recipes.running import run_recipe

RECIPE = """
summary = "shrinking a trained network"
source = "nowhere, section 1"
minutes = 1
seeds = 2
notes = "A trial."

[config]
run = { samples = 20, blocks = 1, batch_size = 10, extractors = ["pixels"], evaluators = ["frechet"] }
dataset = { name = "fake-rings", count = 200 }

[[arm]]
name = "base"
config.generator = { name = "fake-points" }
config.objective = [{ name = "pretrain", train = { steps = 40, batch_size = 16 } }]
tiny = { objective = [{ train = { steps = 3 } }] }

[[arm]]
name = "shrunk"
config.generator = { name = "fake-points", weights = "{base}/generator/1-pretrain/weights.safetensors" }
config.objective = { name = "fake-shrink" }
config.run.control = true
sweep = { key = "objective.factor", values = [0.5, 1.0] }

[[arm]]
name = "chain"
config.run.evaluate_each = true
config.generator = { name = "fake-points" }
config.objective = [{ name = "fake-contrast", guide = "{base}:improved" }, { name = "fake-shift", by = 9 }]

[[table]]
title = "Distances"
scores = ["fd-pixels", "no-such-score"]
rows = [
    "base:base", "base:improved", "shrunk:factor=1.0", "shrunk:control-factor=0.5", "chain:1-fake-contrast",
    "base:floor",
]

[[claim]]
says = "moving all points far away hurts"
score = "fd-pixels"
of = "chain:2-fake-shift"
above = "chain:1-fake-contrast"
by = 2

[[claim]]
says = "moving all points far away helps"
score = "fd-pixels"
of = "chain:improved"
below = "chain:base"

[[claim]]
says = "a factor of one changes nothing"
score = "fd-pixels"
of = "shrunk:factor=1"
near = "base:improved"

[[claim]]
says = "what nobody measures"
score = "no-such-score"
rising = ["base:base", "base:improved"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trial.toml"
    path.write_text(RECIPE)
    return path


def changed(file: Path, old: str, new: str) -> Path:
    assert old in RECIPE
    file.write_text(RECIPE.replace(old, new))
    return file


def test_a_recipe_runs_arms_under_seeds_and_judges_its_claims(file: Path, tmp_path: Path) -> None:
    result = run_recipe(str(file), tmp_path / "out", sets=[("recipe.tiny", True)])
    data = json.loads((tmp_path / "out/recipe.json").read_text())
    verdicts = [claim["verdict"] for claim in data["claims"]]
    assert verdicts[:3] == ["shows (2 of 2 seeds)", "does not show (0 of 2 seeds)", "shows (2 of 2 seeds)"]
    assert verdicts[3] == "cannot be judged: the score is missing"
    rows = {row["row"]: row["values"]["fd-pixels"] for row in data["tables"][0]["rows"]}
    assert rows["shrunk:factor=1.0"] == rows["shrunk:control-factor=0.5"] == rows["base:improved"]
    assert len(rows["base:base"]["seeds"]) == 2
    assert data["tables"][0]["rows"][0]["values"]["no-such-score"] is None
    assert result.page == (tmp_path / "out/recipe.md").read_text()
    assert "| base: base | " in result.page
    assert "- **does not show (0 of 2 seeds)**: moving all points far away helps" in result.page
    seeds = {
        json.loads(path.read_text())["run"]["seed"] for path in tmp_path.glob("out/seed-1/*/metrics.json")
    }
    assert seeds == {1}


def test_more_seeds_continue_a_recipe(file: Path, tmp_path: Path) -> None:
    tiny = ("recipe.tiny", True)
    run_recipe(str(file), tmp_path / "out", sets=[tiny, ("recipe.seeds", 1)])
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/seed-0/*/generator/**/*.*")}
    assert made
    run_recipe(str(file), tmp_path / "out", sets=[tiny])
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_killed_recipe_continues(file: Path, tmp_path: Path) -> None:
    words = ["run", "--recipe", str(file), "--set", "recipe.seeds=1", "--quiet", "--out", str(tmp_path / "x")]
    command = [sys.executable, "-m", "genplug", *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("x/seed-0/shrunk/generator/*")):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "x/recipe.json").exists()
    killed, whole = (run_recipe(str(file), tmp_path / at, sets=[("recipe.seeds", 1)]).page for at in "xy")
    assert killed == whole


def test_a_plan_needs_no_weights_and_no_torch(file: Path) -> None:
    code = (
        f"import sys\nfrom genplug.recipes.arms import find_order, plan_arms\n"
        f"print(*plan_arms(find_order({str(file)!r})), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["base", "shrunk", "chain", "False"], done.stderr


def test_small_values_go_over_an_arms_own_by_place(file: Path) -> None:
    asked = find_order(str(file), [("recipe.tiny", True), ("run.blocks", 2)])
    config = merged(asked, asked.form.arm[0])
    assert config["objective"] == [{"name": "pretrain", "train": {"steps": 3, "batch_size": 16}}]
    assert config["run"]["samples"] == 40
    assert plan_arms(asked)["chain"].run.blocks == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "shrunk"', 'name = "base"', "two arms are called 'base'"),
        (
            "{base}/generator",
            "{bsae}/generator",
            "arm 'shrunk' uses {bsae}, which is no arm before it; did you",
        ),
        ('guide = "{base}:improved"', 'guide = "{chain}:base"', "uses {chain}, which is no arm before it"),
        ('"base:floor"', '"bse:floor"', "'bse:floor': expected ARM:MODEL; the arms are base, shrunk, chain"),
        (
            '"shrunk:factor=1.0"',
            '"shrunk:factor=2"',
            "'shrunk:factor=2' in recipe 'trial': no model 'factor=2'",
        ),
        (
            "config.run.evaluate_each = true",
            "",
            "'1-fake-contrast' is not judged; set run.evaluate_each = true",
        ),
        ('name = "fake-shrink"', 'name = "fake-shrnk"', "arm 'shrunk' of recipe 'trial': no objective named"),
        ("by = 2", "by = -1", "bad value for 'claim.0.by'"),
        ("by = 2", 'below = "base:base"', "one of below, above and near"),
        ("minutes = 1", "minuets = 1", "unknown key 'minuets'; did you mean 'minutes'"),
        ("seeds = 2", "seeds = 0", "bad value for 'seeds'"),
        ("[[arm]]", "[[arm", "trial.toml"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_before_any_work(file: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(GenplugError) as caught:
        plan_arms(find_order(str(changed(file, old, new))))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("recipe.seds", 1, "unknown key 'recipe.seds'"),
        ("recipe.seeds", "many", "recipe.seeds is a number"),
        ("objective.factor", 1, "of a recipe, run, runtime, dataset"),
        ("run.seed", 1, "of a recipe"),
    ],
)
def test_options_that_a_recipe_has_not_are_refused(file: Path, key: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_order(str(file), [(key, value)])


def test_a_folder_that_is_no_recipes_is_not_used(file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(GenplugError, match=r"holds 'thesis.tex': it is no recipe's directory"):
        run_recipe(str(file), tmp_path / "out")


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no recipe named 'no-such-thing'"):
        find_order("no-such-thing")


def test_a_file_that_cannot_be_read_spoils_no_other(file: Path) -> None:
    (file.parent / "bad.toml").write_text("summary = ")
    (file.parent / "empty.toml").write_text("")
    bad, empty, good = recipes_from(file.parent)
    assert (good.name, good.minutes, good.problem) == ("trial", 1.0, "")
    assert "bad.toml" in bad.problem
    assert "expected summary = TEXT" in empty.problem


def claim(**values: Any) -> Claim:
    return Claim(says="", score="s", **values)


@pytest.mark.parametrize(
    ("asked", "values", "shows"),
    [
        ({"of": "a:x", "below": "b:x"}, {"a:x": 0.9, "b:x": 1.0}, True),
        ({"of": "a:x", "below": "b:x"}, {"a:x": 1.0, "b:x": 1.0}, False),
        ({"of": "a:x", "below": "b:x", "by": 0.2}, {"a:x": 0.81, "b:x": 1.0}, False),
        ({"of": "a:x", "below": "b:x", "by": 0.2}, {"a:x": 0.79, "b:x": 1.0}, True),
        ({"of": "a:x", "above": "b:x", "by": 0.5}, {"a:x": -0.4, "b:x": -1.0}, True),
        ({"of": "a:x", "above": 0.5}, {"a:x": 0.6}, True),
        ({"of": "a:x", "near": "b:x", "by": 0.1}, {"a:x": 1.09, "b:x": 1.0}, True),
        ({"of": "a:x", "near": 2.0, "by": 0.1}, {"a:x": 2.3}, False),
        ({"rising": ("a:x", "b:x", "c:x")}, {"a:x": 1, "b:x": 2, "c:x": 2}, False),
        ({"falling": ("a:x", "b:x", "c:x")}, {"a:x": 3, "b:x": 2, "c:x": 1}, True),
        ({"rising": ("a:x", "b:x")}, {"a:x": 1, "b:x": None}, None),
    ],
)
def test_what_a_claim_asks_of_one_seed(asked: Any, values: Any, shows: bool | None) -> None:
    assert holds(claim(**asked), values) is shows


def test_verdicts_are_sums_over_seeds() -> None:
    assert verdict(3, 3) == "shows (3 of 3 seeds)"
    assert verdict(2, 3) == "shows in part (2 of 3 seeds)"
    assert verdict(0, 1) == "does not show (0 of 1 seed)"


def test_a_table_has_means_and_deviations_of_all_seeds_or_nothing() -> None:
    assert over_seeds([1.0, 3.0]) == {"mean": 2.0, "spread": 2**0.5, "seeds": [1.0, 3.0]}
    assert over_seeds([1.0]) == {"mean": 1.0, "spread": None, "seeds": [1.0]}
    assert over_seeds([1.0, None]) is None


def test_a_form_is_read_from_its_file(file: Path) -> None:
    assert [arm.name for arm in read_form(file).arm] == ["base", "shrunk", "chain"]
