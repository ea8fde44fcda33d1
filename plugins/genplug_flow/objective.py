"""The objective `flow`: a rectified flow from generated samples to their nearest real ones.

    min_v  integral_0^1 E || (y - x) - v(x_t, t, c) ||^2 dt,    x_t = (1 - t) x + t y          (equation 9)

x is a generated sample of class c and y one of its k nearest real neighbours, drawn anew each step.
Sampling integrates dx/dt = v from x at t = 0 to t = 1 (arXiv 2503.10638).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genplug.checkpoints import digest, load_strict, load_weights, save_weights
from genplug.errors import ConfigError, DataError, WeightsError
from genplug.fit import Batch, StepResult
from genplug.pools import draw_pool
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.stages import write_json
from genplug.training import WEIGHTS, Network, TensorRows
from genplug_flow.config import FlowConfig
from genplug_flow.generator import FlowedGenerator
from genplug_flow.pairs import AnyRow, Classes, PairRows, Search
from genplug_flow.solvers import Dopri5, FixedSteps, Solver
from genplug_flow.space import Space
from genplug_flow.velocity import Sizes, Velocity, class_weights

FLOW_FILE = "flow.json"


class Flow:
    """Postprocess any generator by a flow towards real neighbours of its samples."""

    def __init__(self, config: FlowConfig) -> None:
        self.config = config

    def apply(self, generator: Any, run: Run) -> FlowedGenerator:
        """Return the generator followed by a trained flow."""
        if self.config.trained:
            flowed = self.restore(generator, Path(self.config.trained), run)
            if flowed.x_shape != (ours := self._x_shape(Space(generator), run.dataset("train"), run)):
                raise WeightsError(f"{self.config.trained} moves x of shape {flowed.x_shape}, not {ours}")
            return flowed
        return self._trained(generator, run, self.config.target)

    def control(self, generator: Any, run: Run) -> FlowedGenerator:
        """Return what the same flow makes of random real samples of the class, instead of neighbours."""
        return self._trained(generator, run, "random")

    def save(self, generator: FlowedGenerator, directory: Path) -> None:
        """Write the flow's weights and sizes."""
        save_weights(generator.velocity.state_dict(), directory / WEIGHTS)
        write_json(directory / FLOW_FILE, generator.velocity.sizes.record())

    def restore(self, base: Any, directory: Path, run: Run) -> FlowedGenerator:
        """Return a generator followed by a saved flow."""
        try:
            record = json.loads((directory / FLOW_FILE).read_text(encoding="utf-8"))
            velocity = Sizes.read(record).build()
        except (OSError, ValueError, KeyError, TypeError):
            raise WeightsError(f"{directory} holds no flow; name RUN/generator/NUMBER-flow") from None
        load_strict(velocity, load_weights(directory / WEIGHTS), "the flow")
        return self._around(base, velocity, run)

    def _around(self, base: Any, velocity: Velocity, run: Run) -> FlowedGenerator:
        velocity = velocity.to(run.device).eval().requires_grad_(False)
        return FlowedGenerator(base, velocity, make_solver(self.config))

    def _trained(self, generator: Any, run: Run, target: str) -> FlowedGenerator:
        """Draw the pool, pair it and train the velocity."""
        config, real, space = self.config, run.dataset("train"), Space(generator)
        if target == "neighbour":
            run.extractor(config.extractor)  # so that missing weights are told before anything is drawn
        sources = self._sources(generator, run, real)
        labels_N = _labels(sources, run)
        count = sum(source.count for source in sources)
        classes = Classes.of(labels_N, count, real, config.within_class)
        x_shape = self._x_shape(space, real, run)
        pool = _pool(sources, run)
        search = Search(config.extractor, config.distance, config.neighbours(generator.modality))
        found = search.neighbours(run, pool, space, real, classes) if target == "neighbour" else None
        sizes = Sizes.of(config, x_shape, _count_classes(labels_N, real))
        fit = run.fit(
            "fit",
            Network(new_velocity(sizes, run)),
            partial(flow_step, classes=sizes.classes),
            {"pairs": PairRows(pool, real, space, found or AnyRow(classes))},
            config.train,
            key={
                "pairs": digest({"table": found.table_Nk}) if found else target,
                "pool": digest({"x": pool.x}),
                "real": real.fingerprint,
                "network": sizes.record(),
            },
            dropout=config.unet.dropout > 0,
        )
        velocity = sizes.build()
        load_strict(velocity, fit.last.weights(), "the flow")
        return self._around(generator, velocity, run)

    def _sources(self, generator: Any, run: Run, real: SampleSet) -> list[Source]:
        """Return who fills the pool: the generator, or the same at several scales in equal shares."""
        count, limit, scales = self.config.pool, generator.size, self.config.scales
        if count < 0:
            count = len(real) if limit is None else min(len(real), limit)
        if limit is not None and count > limit:
            raise DataError(
                f"objective.pool = {count} asks for more than the {limit} samples that there are to train "
                "on; lower objective.pool"
            )
        if not scales:
            return [Source(generator, count, 0)]
        ends = [count * number // len(scales) for number in range(len(scales) + 1)]
        shares = zip(scales, ends[:-1], ends[1:], strict=True)
        return [Source(generator.with_guidance(s), b - a, block) for block, (s, a, b) in enumerate(shares)]

    def _x_shape(self, space: Space, real: SampleSet, run: Run) -> tuple[int, ...]:
        """Return the shape of x, which generated and real samples must share."""
        seed = run.seeds("pool", 1)
        drawn = space.draw(seed, space.generator.conditions(seed, run.settings.classes))
        generated = tuple(space.samples(drawn.cpu(), "the pool", None).shape)
        if generated != real.shape:
            raise DataError(
                f"generated samples have shape {generated}, those of {real.name} {real.shape}: a flow needs "
                "real samples of the same shape"
            )
        shape = tuple(space.x(drawn.to(run.device)).shape[1:])
        theirs = tuple(space.encode(real.read([0]).to(run.device)).shape[1:])
        if shape != theirs:
            raise ConfigError(f"generated samples are moved as {shape}, but real ones encoded as {theirs}")
        return shape


@dataclass(frozen=True)
class Source:
    """Who makes a part of the pool, how many samples, in which block of seeds."""

    generator: Any
    count: int
    block: int


def _labels(sources: Sequence[Source], run: Run) -> Tensor | None:
    """Return the labels that the pool will have; None without."""
    labels = []
    for source in sources:
        seeds_N = run.seeds("pool", source.count, source.block)
        cond = source.generator.conditions(seeds_N, run.settings.classes)
        if cond is None or cond.labels_N is None:
            return None
        labels.append(cond.labels_N.cpu())
    return torch.cat(labels)


def _pool(sources: Sequence[Source], run: Run) -> TensorRows:
    """Draw the pool, or read what was drawn."""
    parts = []
    for source in sources:
        space = Space(source.generator)
        key = {"latent": space.latent, "scale": getattr(source.generator, "guidance", None)}
        name = f"pool-{source.block + 1}"
        parts.append(
            draw_pool(run, name, source.generator, source.count, space.draw, key=key, block=source.block)
        )
    labels = [part.labels for part in parts if part.labels is not None]
    return TensorRows(torch.cat([part.x for part in parts]), torch.cat(labels) if labels else None)


def new_velocity(sizes: Sizes, run: Run) -> Velocity:
    """Return a network with the random weights of the run's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return sizes.build().to(run.device)


def flow_step(model: Network, batch: Batch, classes: int) -> StepResult:
    """Return the error of the velocity at one time of each pair, averaged over x (equation 9)."""
    pair, cond = batch.rows["pairs"]
    x, y = pair.unbind(1)
    t_N = batch.draws.uniform((len(x),), "time")
    t = t_N.reshape(-1, *(1 for _ in x.shape[1:]))
    weights_NK = class_weights(cond, classes)
    v: Tensor = model.module((1 - t) * x + t * y, t_N, weights_NK)
    error_N = (y - x - v).square().flatten(1).mean(1)
    return StepResult(error_N, {"distance": (y - x).square().flatten(1).mean(1).sqrt()})


def make_solver(config: FlowConfig) -> Solver:
    """Return the way to integrate."""
    if config.solver == "dopri5":
        return Dopri5(config.rtol, config.atol)
    return FixedSteps(config.solver, config.steps)


def _count_classes(labels_N: Tensor | None, real: SampleSet) -> int:
    """Return how many labels the flow must know; 0 if generated samples have none."""
    if labels_N is None:
        return 0
    known = [labels_N] if real.labels is None else [labels_N, real.labels]
    return 1 + max(int(labels.max()) for labels in known)
