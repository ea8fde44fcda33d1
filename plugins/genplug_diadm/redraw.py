"""`feature-draw`: sample a trained DiADM generator with other features, without training again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genplug.errors import CapabilityError
from genplug.runtime import Run
from genplug_diadm.config import FeatureDrawConfig
from genplug_diadm.diadm import DRAWS, load_conditions, save_conditions
from genplug_diadm.draws import FeatureDraws, make_draws


class FeatureDraw:
    """Set which features samples are conditioned on."""

    def __init__(self, config: FeatureDrawConfig) -> None:
        self.config = config

    def apply(self, generator: Any, run: Run) -> Any:
        """Return the generator with conditions drawn in another way."""
        conditions = getattr(generator, "conditioning", None)
        if not isinstance(conditions, FeatureDraws):
            raise CapabilityError(
                "feature-draw needs the training features that diadm leaves; put it after diadm"
            )
        return generator.replace(conditioning=make_draws(run, conditions.bank, self.config))

    def save(self, generator: Any, directory: Path) -> None:
        """Write the features."""
        save_conditions(generator.conditioning, directory / DRAWS)

    def restore(self, base: Any, directory: Path, run: Run) -> Any:
        """Return the generator with the saved features."""
        return base.replace(conditioning=load_conditions(directory / DRAWS)[0])
