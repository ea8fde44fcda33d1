"""The format of a recipe's file, as pydantic models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from genplug.config import Options, read_toml, validate
from genplug.errors import ConfigError, nearest
from genplug.sweeps import Sweep

TINY: dict[str, Any] = {"run": {"samples": 40, "blocks": 1}}
Cell = str  # ARM:MODEL


class Arm(Options):
    """One run per seed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="folder and name of the arm")
    config: dict[str, Any] = Field({}, description="as in run.toml, over what all arms share")
    tiny: dict[str, Any] = Field({}, description="what makes it small enough for a test")
    sweep: Sweep | None = Field(None, description="one model per value of an option")


class Table(Options):
    """Scores of some models."""

    title: str = Field(description="title")
    scores: tuple[str, ...] = Field(min_length=1, description="columns: names of scores")
    rows: tuple[Cell, ...] = Field(min_length=1, description="rows: ARM:MODEL")


class Claim(Options):
    """What the experiment is expected to show, in words and as a test that every seed passes or not."""

    says: str = Field(description="the claim, in words")
    score: str = Field(description="name of the score that it is about")
    of: Cell | None = Field(None, description="ARM:MODEL whose value it is about")
    below: Cell | float | None = Field(None, description="what that value is below: ARM:MODEL or a number")
    above: Cell | float | None = Field(None, description="what that value is above: ARM:MODEL or a number")
    near: Cell | float | None = Field(None, description="what that value is close to")
    by: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="share of the other value that it is below or above by at least, or near to within",
    )
    rising: tuple[Cell, ...] = Field((), description="models whose values rise in this order")
    falling: tuple[Cell, ...] = Field((), description="models whose values fall in this order")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Claim:
        compared = [value for value in (self.below, self.above, self.near) if value is not None]
        ordered = [row for row in (self.rising, self.falling) if row]
        if len(compared) + len(ordered) != 1 or (self.of is None) == bool(compared):
            raise ValueError("expected of with one of below, above and near; or one of rising and falling")
        if ordered and len(ordered[0]) < 2:
            raise ValueError("rising and falling need two models at least")
        return self

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every ARM:MODEL that it names."""
        named = (self.of, self.below, self.above, self.near)
        return (*(cell for cell in named if isinstance(cell, str)), *self.rising, *self.falling)


class Form(Options):
    """A recipe's file."""

    summary: str = Field(description="one line")
    source: str = Field("", description="where the method is published")
    minutes: float = Field(gt=0, description="about how long all seeds take on two cores")
    seeds: int = Field(3, ge=1, le=64, description="how often every arm is run, each time from another seed")
    notes: str = Field("", description="what a reader must know, under the tables")
    config: dict[str, Any] = Field({}, description="what all arms share, as in run.toml")
    tiny: dict[str, Any] = Field(TINY, description="what makes all arms small enough for a test")
    arm: tuple[Arm, ...] = Field(min_length=1, description="the runs, in order")
    table: tuple[Table, ...] = Field((), description="tables of the result")
    claim: tuple[Claim, ...] = Field((), description="what is expected to show")

    @model_validator(mode="after")
    def _names_fit(self) -> Form:
        names = [arm.name for arm in self.arm]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two arms are called {twice!r}")
        for number, arm in enumerate(self.arm):
            for name in placeholders(arm.config):
                if name not in names[:number]:
                    raise ValueError(
                        f"arm {arm.name!r} uses {{{name}}}, which is no arm before it"
                        f"{nearest(name, names[:number])}"
                    )
        for cell in self.cells:
            if cell.partition(":")[0] not in names or not cell.partition(":")[2]:
                raise ValueError(f"{cell!r}: expected ARM:MODEL; the arms are {', '.join(names)}")
        return self

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every ARM:MODEL that tables and claims name."""
        rows = (cell for table in self.table for cell in table.rows)
        return tuple(dict.fromkeys([*rows, *(cell for claim in self.claim for cell in claim.cells)]))


def read_form(path: Path) -> Form:
    """Read a recipe's file; what is wrong in it is one line that names it."""
    try:
        return validate(Form, read_toml(path), "")
    except ConfigError as error:
        text = str(error).partition("; set it with --set")[0]
        raise ConfigError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def placeholders(value: Any) -> Iterable[str]:
    """Yield the arms whose folders a configuration asks for, as `{ARM}` in its texts."""
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from placeholders(inner)
    elif isinstance(value, str):
        yield from re.findall(r"\{([^{}]*)\}", value)
