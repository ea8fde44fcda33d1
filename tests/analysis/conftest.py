"""Runs on data of known density, without sampling or directories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import genplug
from genplug.log import Heard, Silent
from genplug.runtime import Run, make_accelerator


@pytest.fixture
def run_of() -> Callable[..., Run]:
    """Return a run of a data set and a generator by their options."""

    def made(dataset: Mapping[str, Any], generator: Mapping[str, Any], **settings: Any) -> Run:
        run = {"extractors": ["pixels"], "evaluators": [], "batch_size": 500, **settings}
        config = {"run": run, "dataset": dict(dataset), "generator": dict(generator)}
        resolved = genplug.resolve(config=config)
        accelerator = make_accelerator(resolved.run, resolved.runtime)
        parts = {part.head: part for part in resolved.extractors}
        return Run(accelerator, resolved.run, log=Heard(Silent()), resolved=resolved, extractors=parts)

    return made
