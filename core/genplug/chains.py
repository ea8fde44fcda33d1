"""What a run makes: the steps of its objectives, and the models that it judges.

One chain of objectives is a row of steps. A sweep is a tree: the steps before the swept option are
done once, those from it on once for each value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from genplug.errors import RunDirectoryError, nearest
from genplug.parts import Part, Resolved

BASE = "base"


@dataclass(frozen=True)
class Step:
    """One objective applied: its result is saved in `generator/NAME`.

    `after` is the step before it, none for the base; a `control` is made of what the objective got.
    `variant` is the swept value that it depends on, if it does.
    """

    name: str
    part: Part
    after: str | None = None
    control: bool = False
    variant: str = ""


def steps(resolved: Resolved) -> dict[str, Step]:
    """Return every step by name, each after the one that it needs."""
    found: dict[str, Step] = {}
    for variant, chain in resolved.variants.items():
        before: str | None = None
        for number, part in enumerate(chain, 1):
            own = variant if resolved.sweep is not None and number >= resolved.sweep.number else ""
            name, suffix = f"{number}-{part.name}", f"-{own}" if own else ""
            found.setdefault(name + suffix, Step(name + suffix, part, before, False, own))
            if number == len(chain) and resolved.run.control:
                control = f"{name}-control{suffix}"
                found[control] = Step(control, part, before, True, own)
            before = name + suffix
    return found


def models(resolved: Resolved) -> dict[str, str | None]:
    """Return the models that are judged: name -> step, none for the base."""
    made = steps(resolved)
    followed = {step.after for step in made.values()}
    found: dict[str, str | None] = {BASE: None}
    for name, step in made.items():
        if step.control or name not in followed:
            found[_model(step)] = name
        elif resolved.run.evaluate_each:
            found[name] = name
    return found


def step_of(resolved: Resolved, model: str) -> str | None:
    """Return the step that a model or step is named by; an unknown name is answered with the known ones."""
    made, judged = steps(resolved), models(resolved)
    if model in judged:
        return judged[model]
    if model in made:
        return model
    known = list(dict.fromkeys([*judged, *made]))
    raise RunDirectoryError(
        f"no model {model!r} in this run{nearest(model, known)} (it has: {', '.join(known)})"
    )


def path_to(made: Mapping[str, Step], name: str | None) -> list[Step]:
    """Return the steps from the base to a step."""
    found: list[Step] = []
    while name is not None:
        found.insert(0, made[name])
        name = made[name].after
    return found


def _model(step: Step) -> str:
    """Return the name of the model that a chain, or its control, ends with."""
    if not step.variant:
        return "control" if step.control else "improved"
    return f"control-{step.variant}" if step.control else step.variant
