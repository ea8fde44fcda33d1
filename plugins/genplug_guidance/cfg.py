"""Classifier-free guidance: away from what the model says without the condition (arXiv 2207.12598)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from genplug.checkpoints import load_weights, save_weights
from genplug.runtime import Run
from genplug.training import real_rows, training_key, with_weights
from genplug_ddo.pretrain import pretraining_step
from genplug_guidance.config import CfgConfig
from genplug_guidance.strength import strength_of
from genplug_guidance.two_models import WEIGHTS, away_from, guide_weights, named, named_again, save_named


class Cfg:
    """Guide a conditional generator away from its own unconditional branch, or another generator.

    Where the branch is not trained, a copy of the generator fine-tuned with dropped labels is the guide.
    """

    def __init__(self, config: CfgConfig) -> None:
        self.config = config

    def apply(self, generator: Any, run: Run) -> Any:
        """Return the guided generator."""
        strength_of(self.config, generator)  # refuses a schedule that does not fit before anything is trained
        if self.config.guide is not None:
            return self._guided(generator, named(run, self.config.guide))
        if _has_own_guide(generator):
            return self._guided(generator, None)
        return self._guided(generator, self._with_unconditional(generator, self._fine_tuned(generator, run)))

    def save(self, generator: Any, directory: Path) -> None:
        """Write the fine-tuned guide's weights, or which guide was named."""
        state = guide_weights(generator)
        if self.config.guide is not None:
            save_named(generator, directory, self.config.guide)
        elif state:
            save_weights(state, directory / WEIGHTS)

    def restore(self, base: Any, directory: Path, run: Run) -> Any:
        """Return the guided generator again."""
        if self.config.guide is not None:
            return self._guided(base, named_again(run, self.config.guide, directory))
        if _has_own_guide(base):
            return self._guided(base, None)
        return self._guided(base, self._with_unconditional(base, load_weights(directory / WEIGHTS)))

    def _guided(self, generator: Any, guide: Any) -> Any:
        return away_from(generator, guide, self.config, unconditioned=True)

    def _fine_tuned(self, generator: Any, run: Run) -> dict[str, Any]:
        """Return the weights of a copy that learned to do without labels; the generator stays as it is."""
        config = self.config
        share = config.label_dropout
        key = {**training_key(run, generator), "label_dropout": share, "train": config.train.model_dump()}
        step = functools.partial(pretraining_step, null_share=share)
        scope = run.shared("label-dropped", key)
        data = {"real": real_rows(run, generator)}
        fit = scope.fit("fit", generator.clone(), step, data, config.train, key={}, dropout=True)
        return fit.last.weights()

    def _with_unconditional(self, generator: Any, weights: dict[str, Any]) -> Any:
        return with_weights(generator, weights).with_unconditional()


def _has_own_guide(generator: Any) -> bool:
    return "unconditional" in generator.provides
