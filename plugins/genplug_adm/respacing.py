"""Which timesteps of a long diffusion process a shorter one keeps (Nichol and Dhariwal 2021, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from genplug.errors import ConfigError

DDIM = "ddim"


def kept_timesteps(steps: int, spacing: str | Sequence[int]) -> list[int]:
    """Return the kept ones of T = `steps` timesteps, rising.

    `"25"` keeps 25 of them, evenly from the first to the last; `"ddim25"` those at a whole stride from 0
    (Song et al. 2020); `"10,15,20"` or a sequence of numbers so many of each of as many equal sections.
    """
    if isinstance(spacing, str) and spacing.startswith(DDIM):
        return _strided(steps, _count(spacing.removeprefix(DDIM), spacing))
    counts = [_count(part, spacing) for part in spacing.split(",")] if isinstance(spacing, str) else spacing
    kept: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        size = steps // len(counts) + (section < steps % len(counts))
        if not 1 <= count <= size:
            raise ConfigError(f"cannot keep {count} of {size} timesteps; keep 1 to {size}")
        stride = (size - 1) / max(count - 1, 1)
        # Summed up, not multiplied: timesteps halfway between two round as in the published process.
        offsets = accumulate([stride] * (count - 1), initial=0.0)
        kept += [start + round(offset) for offset in offsets]
        start += size
    return kept


def _strided(steps: int, count: int) -> list[int]:
    for stride in range(1, steps):
        if len(range(0, steps, stride)) == count:
            return list(range(0, steps, stride))
    raise ConfigError(f"no whole stride keeps {count} of {steps} timesteps; take a divisor, or even spacing")


def _count(text: str, spacing: object) -> int:
    if not text.strip().isdecimal():
        raise ConfigError(f"bad spacing {spacing!r}; expected a number, 'ddimN', or numbers with commas")
    return int(text)
