"""Options of the data set `digits`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genplug.config import Config

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_digits.dataset import Digits


class DigitsConfig(Config):
    """The digits as they are, or larger by interpolation, which adds pixels but no detail."""

    resolution: Literal[8, 16, 28] = Field(
        8, description="pixels a side: 8, 17 grey levels; 16 or 28, bicubic from 8, 256 grey levels"
    )

    def build(self, run: Run) -> Digits:
        """Open the data set."""
        from genplug_digits.dataset import Digits

        return Digits(self.resolution)
