"""Autoguidance: away from a worse model of the same kind (Karras et al. 2024, arXiv 2406.02507)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genplug.checkpoints import load_weights, save_weights
from genplug.config import flatten, merge, nest, validate
from genplug.errors import CapabilityError, ConfigError
from genplug.runtime import Run
from genplug.stages import write_json
from genplug.training import real_rows, training_key, with_weights
from genplug_ddo.pretrain import pretraining_step
from genplug_guidance.config import AutoguidanceConfig
from genplug_guidance.strength import strength_of
from genplug_guidance.two_models import (
    FACTS,
    WEIGHTS,
    away_from,
    guide_weights,
    named,
    named_again,
    save_named,
)

_CONDITIONS = {"class-conditional", "feature-conditional", "text-conditional"}


class Autoguidance:
    """Guide a generator away from a worse version of itself, named or made here.

    `made` is the configuration of the guide that is made, as `made_of` gives it.
    """

    def __init__(self, config: AutoguidanceConfig, made: Mapping[str, Any] | None) -> None:
        self.config, self.made = config, made

    def apply(self, generator: Any, run: Run) -> Any:
        """Return the guided generator."""
        strength_of(self.config, generator)  # refuses a schedule that does not fit before anything is trained
        if self.config.guide is not None:
            return away_from(generator, named(run, self.config.guide), self.config)
        if self.made is None:
            raise ConfigError("a guide can only be made within a run; name one with objective.guide")
        fresh = _built(run, self.made)
        _check_made(fresh, generator)
        if self.config.guide_weights is not None:
            weights = load_weights(Path(self.config.guide_weights))
        else:
            weights = self._trained(fresh, run)
        return away_from(generator, with_weights(fresh, weights), self.config)

    def save(self, generator: Any, directory: Path) -> None:
        """Write the guide that was made, or which one was named."""
        if self.config.guide is not None:
            save_named(generator, directory, self.config.guide)
            return
        write_json(directory / FACTS, self.made)
        save_weights(guide_weights(generator), directory / WEIGHTS)

    def restore(self, base: Any, directory: Path, run: Run) -> Any:
        """Return the guided generator again."""
        if self.config.guide is not None:
            return away_from(base, named_again(run, self.config.guide, directory), self.config)
        fresh = _built(run, json.loads((directory / FACTS).read_text(encoding="utf-8")))
        return away_from(base, with_weights(fresh, load_weights(directory / WEIGHTS)), self.config)

    def _trained(self, fresh: Any, run: Run) -> dict[str, Any]:
        """Train a guide from random weights, once for all guidance scales of a run."""
        train = self.config.train
        key = {**training_key(run, fresh), "train": train.model_dump(), "guide": self.made}
        data = {"real": real_rows(run, fresh)}
        scope = run.shared("guide", key)
        return scope.fit("fit", fresh, pretraining_step, data, train, key={}, dropout=True).last.weights()


def made_of(run: Run, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the run's generator with some options changed, as plain data; None outside of a run."""
    if run.resolved is None:
        return None
    part = run.resolved.generator
    changed = merge(part.options(), nest(dict(flatten(options))))
    config = validate(type(part.config), changed, "objective.guide_options")
    values = config.model_dump(exclude_none=True)
    return {"generator": part.name, "options": values, "version": part.entry.package.version}


def _built(run: Run, made: Mapping[str, Any]) -> Any:
    """Build the guide with random weights that depend on the run's seed."""
    model = run.catalog.get("generator", made["generator"]).config_model()
    return validate(model, made["options"], "generator").build(run)


def _check_made(guide: Any, generator: Any) -> None:
    """Refuse to make a guide that cannot be trained, or one of another condition than the generator's."""
    if "trainable" not in guide.provides:
        raise CapabilityError(
            "a guide of the generator's own configuration cannot be trained; name one with objective.guide"
        )
    if guide.provides & _CONDITIONS != generator.provides & _CONDITIONS:
        raise CapabilityError(
            "an objective before this one changed what the generator is conditioned on; name a guide of that "
            "kind with objective.guide"
        )
