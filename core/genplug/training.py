"""What `train` objectives share: rows to train on, and saving a result as weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genplug.checkpoints import digest, load_weights, save_weights
from genplug.condition import Condition
from genplug.errors import DataError
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.samplesets import SampleSet

WEIGHTS = "weights.safetensors"


class TrainedWeights:
    """Base of objectives whose result is the same generator with other weights."""

    def save(self, generator: Any, directory: Path) -> None:
        """Write the weights."""
        save_weights(generator.state_dict(), directory / WEIGHTS)

    def restore(self, base: Any, directory: Path, run: Run) -> Any:
        """Return a copy of `base` with the saved weights."""
        result = base.clone()
        result.load_state_dict(load_weights(directory / WEIGHTS))
        return result


@dataclass(frozen=True)
class Network:
    """A network that an objective trains beside the generator: what `Run.fit` asks of a generator."""

    module: nn.Module

    def with_module(self, module: nn.Module) -> Network:
        """Return the same around another module."""
        return Network(module)

    def after_step(self) -> None:
        """Do nothing: its weights have no invariants."""

    def clone(self) -> Network:
        """Return a copy with its own weights."""
        return Network(copy.deepcopy(self.module))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights."""
        return self.module.state_dict()


class EncodedRows:
    """A sample set as training rows: encoded on the fly, conditioned on its labels."""

    def __init__(
        self, samples: SampleSet, encode: Callable[[Tensor, NoiseSource], Tensor], labelled: bool
    ) -> None:
        self.samples, self.encode = samples, encode
        self.labels = samples.labels if labelled else None

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, rows: Tensor, draws: NoiseSource) -> tuple[Tensor, Condition | None]:
        """Return x and labels of rows."""
        x = self.encode(self.samples.read(rows.tolist()).to(draws.seeds_N.device), draws)
        return x, None if self.labels is None else Condition(labels_N=self.labels[rows])


class TensorRows:
    """x in memory as training rows, such as a pool of generated samples."""

    def __init__(self, x: Tensor, labels: Tensor | None = None) -> None:
        self.x, self.labels = x, labels

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: Tensor, draws: NoiseSource) -> tuple[Tensor, Condition | None]:
        """Return x and labels of rows."""
        return self.x[rows], None if self.labels is None else Condition(labels_N=self.labels[rows])


def real_rows(run: Run, generator: Any) -> EncodedRows:
    """Return the run's training data as rows for a generator, refusing data that do not fit it."""
    data, labelled = run.dataset("train"), "class-conditional" in generator.provides
    if labelled and data.labels is None:
        raise DataError(f"the generator is trained on labels; {data.name} has none")
    shape = tuple(generator.encode(data.read([0]).to(run.device)).shape[1:])
    if shape != tuple(generator.x_shape):
        raise DataError(f"{data.name} has x of shape {shape}; the generator works on {generator.x_shape}")
    classes = getattr(getattr(generator, "conditioning", None), "num_classes", None)
    if labelled and classes is not None and data.labels is not None and int(data.labels.max()) >= classes:
        raise DataError(
            f"{data.name} has labels up to {int(data.labels.max())}; the generator has {classes} classes"
        )
    return EncodedRows(data, generator.encode, labelled)


def training_key(run: Run, generator: Any) -> dict[str, str]:
    """Return what a training depends on beyond its options: data and starting weights."""
    return {"data": run.dataset("train").fingerprint, "weights": digest(generator.state_dict())}


def full_precision(generator: Any) -> Any:
    """Return a generator whose network computes in float32, if by itself it would not everywhere.

    Networks that lower their own precision, as for sampling, offer `full_precision()`.
    """
    exact = getattr(generator, "full_precision", None)
    return exact() if exact is not None else generator


def frozen(generator: Any) -> Any:
    """Return a copy of a generator that is never trained."""
    copy = generator.clone()
    copy.module.eval().requires_grad_(False)
    return copy


def with_weights(generator: Any, weights: dict[str, Tensor]) -> Any:
    """Return a copy of a generator with other weights."""
    copy = frozen(generator)
    with torch.no_grad():
        copy.load_state_dict(weights)
    return copy
