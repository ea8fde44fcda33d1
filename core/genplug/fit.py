"""The one training loop.

Step t sees rows, labels and noise that are pure functions of (run seed, t), for any number of
processes; so a state on disk is weights, optimiser and averages, and a resumed run ends with the
numbers of an uninterrupted one. An objective gives a step function and owns no loop.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from genplug.checkpoints import save_weights
from genplug.condition import Condition
from genplug.config import TrainConfig
from genplug.ema import HalfLifeEMA, PowerFunctionEMA
from genplug.epochs import Order
from genplug.errors import ConfigError, NonFiniteError
from genplug.random import NoiseSource
from genplug.snapshots import CURVE, Fit, found, snapshot_path, write_curve
from genplug.training import full_precision

if TYPE_CHECKING:
    from genplug.runtime import Run

STATE = "state.pt"


class Rows(Protocol):
    """Training rows that a step draws from: real data, or a pool of generated samples."""

    labels: Tensor | None  # int64 N

    def __len__(self) -> int:
        """Return the number of rows."""

    def batch(self, rows: Tensor, draws: NoiseSource) -> tuple[Tensor, Condition | None]:
        """Return x and conditions of rows; `draws` for stochastic encoders and augmentation."""


@dataclass(frozen=True)
class Batch:
    """What a step sees: x and conditions by the names of the data, and its randomness."""

    rows: Mapping[str, tuple[Tensor, Condition | None]]
    draws: NoiseSource
    step: int


@dataclass(frozen=True)
class StepResult:
    """A loss per row, N, and quantities to log by name, each averaged over rows."""

    loss_N: Tensor
    logs: Mapping[str, Tensor]


Step = Callable[[Any, Batch], StepResult]


def fit(
    run: Run,
    name: str,
    generator: Any,
    step: Step,
    data: Mapping[str, Rows],
    config: TrainConfig,
    *,
    key: Mapping[str, Any],
    snapshots: Sequence[int] = (),
    dropout: bool = False,
) -> Fit:
    """Train `generator` in place and return its snapshots.

    `step(generator, batch)` returns a loss per row; `data` names the row sources of a batch, the
    same number of rows each. `key` is what the result depends on beyond `config`. Snapshots
    are taken after the given steps and at the end. A non-finite loss raises `NonFiniteError`
    and keeps the last good state, from which the same command continues.
    """
    _check_partition(run, config)
    steps = sorted({s for s in snapshots if s < config.steps} | {config.steps})

    def work(partial: Path) -> None:
        Loop(run, name, generator, step, data, config, partial, steps, dropout).run()

    directory = run.stage(name, {"train": config.model_dump(), "snapshots": steps, **key}, work)
    return Fit(directory, tuple(found(directory, steps)))


class Loop:
    """One training in progress: everything that a state on disk holds."""

    def __init__(
        self,
        run: Run,
        name: str,
        generator: Any,
        step: Step,
        data: Mapping[str, Rows],
        config: TrainConfig,
        directory: Path,
        snapshots: Sequence[int],
        dropout: bool,
    ) -> None:
        self.trainer, self.name, self.step_function, self.config = run, name, step, config
        self.directory, self.snapshots = directory, set(snapshots)
        self.generator = generator
        self.module = generator.module.train(dropout).requires_grad_(True)
        self.averages = make_averages(self.module, config)
        optimiser = torch.optim.Adam(
            self.module.parameters(), lr=config.lr, betas=(config.beta1, config.beta2)
        )
        self.wrapped, self.optimiser = run.accelerator.prepare(self.module, optimiser)
        self.model = full_precision(generator.with_module(self.wrapped))
        self.orders = {
            source: Order(rows, run.seed, f"{run.scope}/{name}/{source}", config.balance)
            for source, rows in data.items()
        }
        self.data, self.done = data, 0
        self.curve: list[dict[str, float]] = []
        self._load()

    def run(self) -> None:
        """Train to the end, saving states, curve and snapshots."""
        trainer, saved = self.trainer, time.monotonic()
        label = f"{trainer.scope}/{self.name}".removeprefix("stages/")
        with trainer.log.progress(label, self.config.steps, "step", self.done) as advance:
            while self.done < self.config.steps:
                logs = self._step(self.done)
                self.done += 1
                if self.done % log_every(self.config) == 0:
                    self.curve.append({"step": self.done, **logs})
                advance(1, f"loss {logs['loss']:.4g}")
                if self.done in self.snapshots:
                    self._snapshot()
                if (
                    time.monotonic() - saved >= self.config.checkpoint_seconds
                    or self.done == self.config.steps
                ):
                    self._save()
                    saved = time.monotonic()
        self.module.requires_grad_(False).eval()
        trainer.accelerator.free_memory()  # it keeps every model and optimiser that it prepared
        trainer.wait()  # a process that is still reading the state must find it
        if trainer.is_main:
            (self.directory / STATE).unlink(missing_ok=True)

    def _step(self, number: int) -> dict[str, float]:
        """Do one optimiser step; return what it logged."""
        accelerator, config = self.trainer.accelerator, self.config
        torch.manual_seed(zlib.crc32(f"{self.trainer.seed}:{number}:{accelerator.process_index}".encode()))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, number)
        self.optimiser.zero_grad()
        totals: dict[str, Tensor] = {}
        for part in range(config.accumulate):
            batch = self._batch(number, part)
            result = self.step_function(self.model, batch)
            loss = result.loss_N.mean() / config.accumulate
            for name, value in {"loss": result.loss_N, **result.logs}.items():
                totals[name] = totals.get(name, 0) + value.detach().float().mean() / config.accumulate
            accelerator.backward(loss)
        means = accelerator.reduce(torch.stack(list(totals.values())), "mean").tolist()
        logs = dict(zip(totals, means, strict=True))
        if not math.isfinite(logs["loss"]):
            self._stop(number, logs["loss"])
        if config.clip:
            accelerator.clip_grad_norm_(self.wrapped.parameters(), config.clip)
        self.optimiser.step()
        self.generator.after_step()
        for average in self.averages:
            average.update(self.module, (number + 1) * config.batch_size, config.batch_size)
        return logs

    def _batch(self, number: int, part: int) -> Batch:
        """Return this process's share of a step's rows."""
        accelerator, config = self.trainer.accelerator, self.config
        share = config.batch_size // (accelerator.num_processes * config.accumulate)
        first = (
            number * config.batch_size
            + (part * accelerator.num_processes + accelerator.process_index) * share
        )
        positions = torch.arange(first, first + share)
        seeds_N = self.trainer.seeds("train", 1) + positions
        draws = NoiseSource(seeds_N, self.trainer.device, salt=f"{self.trainer.scope}/{self.name}")
        rows = {}
        for source, order in self.orders.items():
            x, cond = self.data[source].batch(order.rows(positions), draws)
            rows[source] = (
                x.to(self.trainer.device),
                cond.to(self.trainer.device) if cond is not None else None,
            )
        return Batch(rows, draws, number)

    def _stop(self, number: int, loss: float) -> None:
        if all(bool(p.isfinite().all()) for p in self.module.parameters()):
            self._save()
        self.trainer.event("non-finite", step=number, loss=str(loss))
        raise NonFiniteError(
            f"loss became {loss} at step {number + 1} of {self.name}; "
            f"the last good state is kept in {self.directory}; "
            "lower the learning rate (train.lr) and start again"
        )

    def _snapshot(self) -> None:
        if self.trainer.is_main:
            modules = {"raw": self.module}
            for average in self.averages:
                modules.update(average.averages())
            for name, module in modules.items():
                save_weights(module.state_dict(), snapshot_path(self.directory, self.done, name))

    def _save(self) -> None:
        """Write the state from which training continues exactly."""
        if not self.trainer.is_main:
            return
        write_curve(self.directory / CURVE, self.curve)
        state = {
            "done": self.done,
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "averages": [average.state_dict() for average in self.averages],
            "curve": self.curve,
        }
        partial = self.directory / f".{STATE}"
        torch.save(state, partial)
        partial.replace(self.directory / STATE)

    def _load(self) -> None:
        path = self.directory / STATE
        if not path.is_file():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(saved)
        self.done, self.curve = state["done"], state["curve"]


def make_averages(module: torch.nn.Module, config: TrainConfig) -> list[Any]:
    """Return the weight averages that a configuration asks for."""
    averages: list[Any] = []
    if config.ema_halflife:
        averages.append(HalfLifeEMA(module, config.ema_halflife * config.batch_size))
    if config.ema_std:
        averages.append(PowerFunctionEMA(module, config.ema_std))
    return averages


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, EDM2's inverse square root decay, linear cool-down."""
    rate = config.lr
    if config.decay:
        rate /= math.sqrt(max((step + 1) / config.decay, 1))
    if config.warmup:
        rate *= min((step + 1) / (config.warmup * config.steps), 1)
    if config.cooldown:
        rate *= min((config.steps - step) / (config.cooldown * config.steps), 1)
    return rate


def log_every(config: TrainConfig) -> int:
    """Return the steps between two points of the curve: at most 1000 points are kept."""
    return math.ceil(config.steps / 1000)


def _check_partition(run: Run, config: TrainConfig) -> None:
    parts = run.accelerator.num_processes * config.accumulate
    if config.batch_size % parts:
        raise ConfigError(
            f"train.batch_size {config.batch_size} does not divide into "
            f"{run.accelerator.num_processes} processes x {config.accumulate} micro-batches; "
            f"use a multiple of {parts}"
        )
