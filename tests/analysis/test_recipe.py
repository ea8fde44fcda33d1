"""The recipe of this package can be run: every arm resolves, every claim names models that there are."""

from __future__ import annotations

from genplug.recipes.arms import find_order, plan_arms


def test_the_recipe_of_guidance_on_a_line_resolves() -> None:
    asked = find_order("guidance-1d", [])
    planned = plan_arms(asked)
    assert {name.partition("-")[0] for name in planned} == {"m01", "m05", "m10"}
    assert {resolved.dataset.name for resolved in planned.values()} == {"gaussians-1d"}
    assert len(asked.form.claim) >= 15
