"""Options of the extractors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from genplug.config import Config

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_features.digits_classifier import DigitsClassifier
    from genplug_features.inception import RandomInception
    from genplug_features.pixels import Pixels


class PixelsConfig(Config):
    """Pixels have no options."""

    def build(self, run: Run) -> Pixels:
        """Return the extractor."""
        from genplug_features.pixels import Pixels

        return Pixels()


class RandomInceptionConfig(Config):
    """Options of the random Inception."""

    seed: int = Field(42, ge=0, description="seed of the weights")
    size: int = Field(299, ge=75, description="images are resized to this, bilinear with antialiasing")

    def build(self, run: Run) -> RandomInception:
        """Return the extractor on the run's device."""
        from genplug_features.inception import RandomInception

        return RandomInception(self, run.device)


class DigitsClassifierConfig(Config):
    """The classifier has no options."""

    def build(self, run: Run) -> DigitsClassifier:
        """Return the extractor on the run's device."""
        from genplug_features.digits_classifier import DigitsClassifier

        return DigitsClassifier(run.device)
