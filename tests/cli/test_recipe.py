"""`genplug run --recipe`, and sweeps, as they are typed and told."""

from __future__ import annotations

import json


def test_a_recipe_is_listed_described_and_planned(genplug):
    rows = [line for line in genplug("plugins").out.splitlines() if line.startswith("recipe ")]
    (row,) = [line for line in rows if line.split()[1] == "toy-light"]
    assert row.split()[1:4] == ["toy-light", "genplug-mock", "1.0"]
    assert row.endswith("light makes squares brighter (about 0.1 minutes)")
    listed = json.loads(genplug("plugins", "--kind", "recipe", "--json").out)["recipes"]
    assert "toy-light" in {recipe["name"] for recipe in listed}
    told = genplug("plugins", "toy-light").out
    assert "brighter squares have another mean (toy-gap-toy-mean: light:improved above light:base)" in told
    assert told.endswith("  genplug run --recipe toy-light\n")
    plan = genplug("run", "--recipe", "toy-light", "--plan").out
    assert "2 seeds, about 0.1 minutes" in plan
    assert "toy-grey > toy-brighter" in plan
    assert json.loads(genplug("run", "--recipe", "toy-light", "--plan", "--json").out)["seeds"] == 2


def test_a_recipe_runs_and_says_what_came_of_its_claims(genplug, here):
    outcome = genplug("run", "--recipe", "toy-light", "--quiet")
    assert outcome.code == 0, outcome.err
    assert "Distances of means" in outcome.out
    assert "light: improved" in outcome.out
    assert "(2 of 2 seeds): brighter squares have another mean" in outcome.out
    assert (here / "runs/recipe-toy-light/recipe.md").is_file()
    again = genplug("run", "--recipe", "toy-light", "--quiet", "--json", "--set", "recipe.seeds=1")
    assert json.loads(again.out)["seeds"] == [0]


def test_a_sweep_has_a_row_for_each_value(genplug):
    command = ("run", "-g", "toy-grey", "-o", "toy-brighter", "--out", "runs/s", "--quiet")
    outcome = genplug(*command, "--sweep", "objective.amount=1:4:1")
    assert outcome.code == 0, outcome.err
    rows = [line.split()[0] for line in outcome.out.splitlines()[:7]]
    assert rows == ["model", "base", "amount=1", "amount=2", "amount=3", "amount=4", "floor"]
    assert genplug("sample", "runs/s:amount=3", "-o", "x.npz", "-n", "2", "-q").code == 0


def test_a_plan_says_what_is_swept_and_judged(genplug):
    command = ("run", "-g", "toy-grey", "-o", "toy-brighter", "--plan", "--sweep", "objective.amount=1,4")
    assert "objective.amount = 1, 4" in genplug(*command).out
    plan = json.loads(genplug(*command, "--json").out)
    assert plan["models"] == ["base", "amount=1", "amount=4"]
