"""Where the kit works: components resolved as the commands do it, small runs, data made of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor

from genplug.config import Config, merge
from genplug.layers import Layers
from genplug.loading import build
from genplug.parts import Part, Resolved
from genplug.paths import RUN_FILE
from genplug.presets import registry
from genplug.protocols import Generator
from genplug.random import NoiseSource
from genplug.registry import Entry, Package, catalog
from genplug.resolving import Resolver
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import ArraySet, SampleSet
from genplug.settings import RunSettings, RuntimeSettings
from genplug.specs import DatasetSpec

BATCH = 4


def entry_of(kind: str, name: str) -> Entry:
    """Return an installed component; an unknown one names what there is."""
    return catalog().get(kind, name)


def resolve_part(kind: str, name: str, options: Mapping[str, Any]) -> Part:
    """Return a component with its `tiny` values (or a preset's) and options, validated as commands do it."""
    installed = catalog()
    small = {} if "preset" in options else {"preset": "none", **installed.get(kind, name).spec.tiny}
    values = merge(small, options)
    return Resolver(installed, registry(installed), Layers({}, {})).one(kind, name, values=values)


@dataclass(frozen=True)
class Given:
    """A data set of samples in memory, the same for every split name but its rows."""

    splits: Mapping[str, SampleSet]
    num_classes: int | None = None
    levels: int = 256

    def split(self, name: str) -> SampleSet:
        """Return one split."""
        return self.splits[name]


class GivenConfig(Config):
    """The configuration of a data set that is there already."""

    data: Any

    def build(self, run: Any) -> Given:
        """Return the data."""
        data: Given = self.data
        return data


def make_run(
    directory: Path | None,
    generator: Part | None = None,
    data: Given | None = None,
    batch: int = BATCH,
    seed: int = 0,
) -> Run:
    """Return a run of small batches on the CPU, with a generator's data where they are needed."""
    settings = RunSettings(batch_size=batch, samples=8, blocks=1, seed=seed)
    runtime = RuntimeSettings(device="cpu")
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    run = Run(make_accelerator(settings, runtime), settings, directory)
    if generator is None or data is None:
        return run
    spec = DatasetSpec(name="given", summary="samples of the kit", config="", modality="any")
    part = Part(Entry(spec, Package("genplug", "")), GivenConfig(data=data))
    nothing: tuple[Part, ...] = ()
    resolved = Resolved(
        settings,
        runtime,
        generator,
        nothing,
        part,
        nothing,
        nothing,
        nothing,
        (),
        run.catalog,
        registry(run.catalog),
    )
    return dataclasses.replace(run, resolved=resolved)


def fresh(part: Part, seed: int = 0) -> Generator:
    """Build a generator with the random weights of a seed (or its own, if it has some)."""
    return build(make_run(None, seed=seed), part)


def drawn(generator: Generator, seeds_N: Tensor) -> Tensor:
    """Return the samples of seeds under the generator's own conditions."""
    with torch.inference_mode():
        return generator.sample(seeds_N, generator.conditions(seeds_N)).cpu()


def sample_data(generator: Generator, count: int = 24) -> Given:
    """Return data that fit a generator: samples of it, moved so that there is something to learn."""
    seeds_N = torch.arange(count if generator.size is None else min(count, generator.size // 2))
    sets = {}
    for number, split in enumerate(("train", "held-out")):
        rows_N = seeds_N + number * len(seeds_N)
        cond = generator.conditions(rows_N)
        labels_N = cond.labels_N if cond is not None else None
        sets[split] = ArraySet(_moved(drawn(generator, rows_N), rows_N), labels_N, f"given:{split}")
    labels = sets["train"].labels
    return Given(sets, None if labels is None else int(labels.max()) + 1)


def _moved(samples: Tensor, seeds_N: Tensor) -> Tensor:
    """Return samples with noise, so that no two are equal and none is the generator's own."""
    noise = NoiseSource(seeds_N).normal(tuple(samples.shape), "data")
    if samples.dtype == torch.uint8:
        return (samples.float() + 40 * noise).clamp(0, 255).to(torch.uint8)
    return samples + 0.3 * noise


def otherwise(parameter: Tensor) -> Tensor:
    """Return its values in other places, which no trained network blows up on; a constant is moved."""
    rolled = parameter.flatten().roll(1).reshape(parameter.shape)
    return parameter + 0.1 if torch.equal(rolled, parameter) else rolled


def as_reference(generator: Part, directory: Path) -> str:
    """Write a generator down as the base of a run; return how a configuration names it.

    Its random weights, if it has any, are of another seed than those of `fresh`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    settings = RunSettings(extractors=(), evaluators=(), seed=1).model_dump()
    text = tomli_w.dumps({"run": settings, "generator": generator.record()})
    (directory / RUN_FILE).write_text(text, encoding="utf-8")
    return f"{directory}:base"


def close(a: Tensor, b: Tensor) -> bool:
    """Return whether samples are equal: points to 1e-4 of their spread, images to one grey level."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == torch.uint8:
        return int((a.int() - b.int()).abs().max()) <= 1
    return bool(torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.std())))
