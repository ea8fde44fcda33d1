"""Writes a checkpoint of BYOL as its code does (dill, protocol 2), from modules made for the purpose."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, Mapping[str, np.ndarray]]


class frozendict(dict):
    """Haiku's immutable mapping of 2020: it reduces to a call of its class with a dictionary."""

    def __reduce__(self) -> Any:
        return frozendict, (dict(self),)


class _ByolExperimentState(NamedTuple):
    online_params: Any
    target_params: Any
    online_state: Any
    target_state: Any
    opt_state: Any


class ScaleByLarsState(NamedTuple):
    mu: Any


class AddWeightDecayState(NamedTuple):
    pass


PLACES = {
    "haiku._src.data_structures": (frozendict,),
    "byol.byol_experiment": (_ByolExperimentState,),
    "byol.utils.optimizers": (ScaleByLarsState, AddWeightDecayState),
}


def write(path: Path, params: Arrays, state: Arrays) -> None:
    """Write a checkpoint with these tensors in its online network."""
    with _modules():
        frozen = frozendict({module: frozendict(leaves) for module, leaves in params.items()})
        states = frozendict({module: frozendict(leaves) for module, leaves in state.items()})
        optimiser = (AddWeightDecayState(), ScaleByLarsState(frozen))
        experiment = _ByolExperimentState(frozen, frozen, states, states, optimiser)
        rng = np.array([0, 42], np.uint32)
        data = pickle.dumps({"experiment_state": experiment, "step": 300_000, "rng": rng}, protocol=2)
    path.write_bytes(data)


@contextmanager
def _modules() -> Iterator[None]:
    """Put the classes where their names say they are, as long as the file is written."""
    made: dict[str, types.ModuleType] = {}
    for name, classes in PLACES.items():
        parts = name.split(".")
        for stop in range(1, len(parts) + 1):
            head = ".".join(parts[:stop])
            made.setdefault(head, types.ModuleType(head))
        for kind in classes:
            kind.__module__ = name
            setattr(made[name], kind.__name__, kind)
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
