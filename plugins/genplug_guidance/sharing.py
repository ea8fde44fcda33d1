"""Work that several objectives of one run share: every value of a swept scale has the same second model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from genplug.runtime import Run
from genplug.stages import digest_of


def shared(run: Run, name: str, key: Mapping[str, Any]) -> Run:
    """Return a run whose stages are kept once for all objectives that ask for them with an equal key.

    `key` is everything that the work depends on but the run's seed: data, starting weights, options.
    """
    place = f"stages/shared/{name}-{digest_of({'seed': run.seed, **key})[:12]}"
    return dataclasses.replace(run, scope=place, key=key)
