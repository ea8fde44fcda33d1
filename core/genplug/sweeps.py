"""Sweeps: one option of an objective, several values of it, one run."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import Any

from pydantic import Field, field_validator

from genplug import toml
from genplug.config import Options, validate
from genplug.errors import ConfigError, shown

MOST = 64  # values
Value = bool | int | float | str


class Sweep(Options):
    """The `[sweep]` section: one model per value of one option."""

    key: str = Field(
        pattern=r"^objective\.[a-z0-9_.]+$", description="option of an objective, as objective.scale"
    )
    values: tuple[Value, ...] = Field(
        min_length=1, max_length=MOST, description="values, in the order in which they are shown"
    )

    @field_validator("values")
    @classmethod
    def _differ(cls, values: tuple[Value, ...]) -> tuple[Value, ...]:
        names = [text_of(value) for value in values]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} is there twice")
        return values

    @property
    def number(self) -> int:
        """The objective whose option this is, from 1."""
        head = self.key.split(".")[1]
        return int(head) if head.isdigit() else 1

    @property
    def option(self) -> str:
        """The key without its objective: `scale`."""
        return ".".join(part for part in self.key.split(".")[1:] if not part.isdigit())

    def model(self, value: Value) -> str:
        """Return the name of a value's model: `scale=1.5`."""
        return f"{self.option}={text_of(value)}"


def text_of(value: Value) -> str:
    """Return a value as models are named after it: 1.0 as 1, what no file can be called as dashes."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return "".join(letter if letter.isalnum() or letter in "._+-" else "-" for letter in text)


def read_sweep(flag: str | None, section: Mapping[str, Any]) -> Sweep | None:
    """Return the sweep of a flag (`KEY=START:STOP:STEP` or `KEY=A,B,C`), else that of a section."""
    if flag is None:
        return validate(Sweep, section, "sweep") if section else None
    key, separator, text = flag.partition("=")
    if not separator or not key.strip():
        raise ConfigError(
            f"--sweep {shown(flag)}: expected KEY=START:STOP:STEP or KEY=A,B,C, as in objective.scale=1:4:0.5"
        )
    if not key.startswith("objective."):
        raise ConfigError(f"--sweep {key}: options of objectives are swept, as in objective.scale")
    spelled = [toml.parse_value(item.strip()) for item in text.split(",")]
    values = _range(flag, text) if text.count(":") == 2 else spelled
    if not all(isinstance(value, Value) and value != "" for value in values):
        raise ConfigError(f"--sweep {shown(flag)}: expected numbers or words between the commas")
    if len(values) > MOST:
        raise ConfigError(f"--sweep {shown(flag)}: {len(values)} values; at most {MOST}")
    return validate(Sweep, {"key": key.strip(), "values": values}, "sweep")


def _range(flag: str, text: str) -> list[int | float]:
    """Return START, START + STEP, ... to STOP inclusive; in decimals, so that 0.1 three times is 0.3."""
    try:
        start, stop, step = (Decimal(part.strip()) for part in text.split(":"))
        count = int((stop - start) / step) + 1 if step else 0
    except (DecimalException, ValueError, OverflowError):
        raise ConfigError(f"--sweep {shown(flag)}: START:STOP:STEP must be numbers") from None
    if not step or (stop - start) / step < 0:
        raise ConfigError(f"--sweep {shown(flag)}: empty, there is no value from {start} to {stop} by {step}")
    if count > MOST:
        raise ConfigError(f"--sweep {shown(flag)}: {count} values; at most {MOST}")
    values = [start + at * step for at in range(count)]
    whole = all(value == value.to_integral_value() for value in (start, step))
    return [int(value) if whole else float(value) for value in values]
