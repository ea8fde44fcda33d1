"""Options of the data set `digits`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genplug.config import Config

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_digits.dataset import Digits


class DigitsConfig(Config):
    """The digits have no options."""

    def build(self, run: Run) -> Digits:
        """Open the data set."""
        from genplug_digits.dataset import Digits

        return Digits()
