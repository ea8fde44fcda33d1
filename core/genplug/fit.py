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
from genplug.ema import make_averages
from genplug.epochs import Order
from genplug.errors import ConfigError, NonFiniteError, OutOfMemoryError
from genplug.memory import free, is_out_of_memory
from genplug.placement import gathered, load_module, load_optimiser, local, place
from genplug.random import NoiseSource
from genplug.schedule import learning_rate
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


@dataclass(frozen=True)
class Training:
    """What is trained, and how.

    `step(generator, batch)` returns a loss per row; `data` names the row sources of a batch, the
    same number of rows each. Snapshots are taken after the given steps and at the end.
    """

    name: str
    generator: Any
    step: Step
    data: Mapping[str, Rows]
    config: TrainConfig
    snapshots: Sequence[int] = ()
    dropout: bool = False

    @property
    def steps(self) -> list[int]:
        """The steps after which snapshots are taken."""
        return sorted({s for s in self.snapshots if s < self.config.steps} | {self.config.steps})


def fit(run: Run, training: Training, key: Mapping[str, Any]) -> Fit:
    """Do a training as a stage and return its snapshots; see `Run.fit`."""
    _check_partition(run, training.config)
    whole_key = {"train": training.config.model_dump(), "snapshots": training.steps, **key}
    directory = run.stage(training.name, whole_key, lambda partial: Loop(run, training, partial).run())
    return Fit(directory, tuple(found(directory, training.steps)))


class Loop:
    """One training in progress: everything that a state on disk holds."""

    def __init__(self, run: Run, training: Training, directory: Path) -> None:
        self.trainer, self.training, self.directory = run, training, directory
        self.generator, self.config = training.generator, training.config
        self.label = f"{run.scope}/{training.name}"
        self.module = self.generator.module.train(training.dropout).requires_grad_(True)
        self.averages = make_averages(self.module, self.config)
        self.modules = {"raw": self.module}
        for average in self.averages:
            self.modules.update(average.averages())
        self.placement = place(run, self.modules, self._adam)
        self.optimiser = self.placement.optimiser
        self.model = full_precision(self.generator.with_module(self.placement.wrapped))
        self.orders = {
            source: Order(rows, run.seed, f"{self.label}/{source}", self.config.balance)
            for source, rows in training.data.items()
        }
        self.pieces = self.config.accumulate
        self.done, self.saved, self.save_due, self.steppable = 0, time.monotonic(), False, True
        self.curve: list[dict[str, float]] = []
        self._load()

    def _adam(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.Adam(groups, lr=config.lr, betas=(config.beta1, config.beta2))

    def run(self) -> None:
        """Train to the end, saving states, curve and snapshots."""
        trainer, steps = self.trainer, self.config.steps
        if self.training.dropout and not self.done:  # what a forward in training mode may do, but in shards
            self.generator.after_step()
        label = self.label.removeprefix("stages/")
        with trainer.log.progress(label, steps, "step", self.done) as advance:
            while self.done < steps:
                logs = self._step(self.done)
                self.done += 1
                if self.done % log_every(self.config) == 0:
                    self.curve.append({"step": self.done, **logs})
                advance(1, f"loss {logs['loss']:.4g}")
                if self.done in self.training.steps:
                    self._snapshot()
                if self.save_due or self.done == steps:
                    self._save()
        self.module.requires_grad_(False).eval()
        trainer.accelerator.free_memory()  # it keeps every model and optimiser that it prepared
        trainer.wait()  # a process that is still reading the state must find it
        if trainer.is_main:
            (self.directory / STATE).unlink(missing_ok=True)

    def _step(self, number: int) -> dict[str, float]:
        """Do one optimiser step; return what it logged."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, number)
        logs = self._agreed(self._gradients_that_fit(number))
        if not (math.isfinite(logs["loss"]) and self.steppable):
            self._stop(number, logs["loss"])
        self.placement.finish_gradients(self.config.clip)
        self.optimiser.step()
        self.generator.after_step()
        for average in self.averages:
            average.update(self.module, (number + 1) * self.config.batch_size, self.config.batch_size)
        return logs

    def _gradients_that_fit(self, number: int) -> dict[str, Tensor]:
        """Compute a step's gradients, in twice as many pieces each time that memory runs out."""
        pieces = self.pieces
        while (totals := self._attempt(number)) is None:
            free()  # here the exception, whose traceback holds the tensors, is gone
        if self.pieces > pieces:
            rows = len(self._pieces(number)[0])
            self.trainer.log.warn(
                f"{self.label}: a step does not fit in memory; continued with {rows} rows at once"
            )
            self.trainer.event("out-of-memory", work=self.label, step=number, continued_with=rows)
        return totals

    def _attempt(self, number: int) -> dict[str, Tensor] | None:
        """Compute a step's gradients; None, and more pieces, if they do not fit in memory."""
        try:
            return self._gradients(number)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.optimiser.zero_grad()
            self._split_more()
        return None

    def _split_more(self) -> None:
        rows, processes = self.config.batch_size, self.trainer.accelerator.num_processes
        asked = (
            f"out of memory: a training step of {self.label}, {rows} rows in {processes * self.pieces} "
            "parts, does not fit"
        )
        if processes > 1:  # the others are already waiting for this one's gradients
            raise OutOfMemoryError(
                f"{asked}; raise train.accumulate (now {self.config.accumulate}) and start again"
            ) from None
        if self.pieces >= rows:
            raise OutOfMemoryError(f"{asked}; free memory or make the network smaller") from None
        self.pieces = min(2 * self.pieces, rows)

    def _gradients(self, number: int) -> dict[str, Tensor]:
        """Add up the gradients of this process's rows; return the means of what the step logged."""
        accelerator = self.trainer.accelerator
        torch.manual_seed(zlib.crc32(f"{self.trainer.seed}:{number}:{accelerator.process_index}".encode()))
        self.optimiser.zero_grad()
        totals: dict[str, Tensor] = {}
        pieces = self._pieces(number)
        for positions in pieces:
            share = len(positions) / sum(map(len, pieces))
            result = self.training.step(self.model, self._batch(number, positions))
            for name, value in {"loss": result.loss_N, **result.logs}.items():
                totals[name] = totals.get(name, 0) + value.detach().float().mean() * share
            accelerator.backward(result.loss_N.mean() * share)
        return totals

    def _agreed(self, totals: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the means over processes.

        A state is due for all of them once it is for one; so is the end, by a gradient that is not finite.
        """
        due = time.monotonic() - self.saved >= self.config.checkpoint_seconds
        grads = [local(p.grad) for p in self.module.parameters() if p.grad is not None]
        bad = not bool(torch.nn.utils.get_total_norm(grads).isfinite())
        values = torch.stack(list(totals.values()))
        together = torch.cat([values, values.new_tensor([due, bad])])
        *means, due_share, bad_share = self.trainer.accelerator.reduce(together, "mean").tolist()
        self.save_due, self.steppable = due_share > 0, bad_share == 0
        return dict(zip(totals, means, strict=True))

    def _pieces(self, number: int) -> tuple[Tensor, ...]:
        """Return the positions, in the whole training, of this process's rows of a step."""
        accelerator, size = self.trainer.accelerator, self.config.batch_size
        share = size // accelerator.num_processes
        first = number * size + accelerator.process_index * share
        return torch.arange(first, first + share).tensor_split(min(self.pieces, share))

    def _batch(self, number: int, positions: Tensor) -> Batch:
        device = self.trainer.device
        draws = NoiseSource(self.trainer.seeds("train", 1) + positions, device, salt=self.label)
        rows = {}
        for source, order in self.orders.items():
            x, cond = self.training.data[source].batch(order.rows(positions), draws)
            rows[source] = (x.to(device), cond.to(device) if cond is not None else None)
        return Batch(rows, draws, number)

    def _stop(self, number: int, loss: float) -> None:
        """Keep the state, if it is good, and say why training ends; all processes come here together.

        The weights are those before the step: what is not finite has not reached them.
        """
        good = all(bool(local(p).isfinite().all()) for p in self.module.parameters())
        if self.trainer.all(good):
            self._save()
        self.trainer.event("non-finite", step=number, loss=str(loss))
        what = "a gradient is not finite" if math.isfinite(loss) else f"loss became {loss}"
        there = (self.directory / STATE).is_file()
        kept = f"; the last good state is kept in {self.directory}" if there else ""
        raise NonFiniteError(
            f"{what} at step {number + 1} of {self.training.name}{kept}; "
            "lower the learning rate (train.lr) and start again"
        )

    def _snapshot(self) -> None:
        for name, module in self.modules.items():
            weights = gathered(module.state_dict(), keep=self.trainer.is_main)
            if self.trainer.is_main:
                save_weights(weights, snapshot_path(self.directory, self.done, name))

    def _save(self) -> None:
        """Write the state from which training continues exactly."""
        main = self.trainer.is_main
        modules = {name: module.state_dict() for name, module in self.modules.items()}
        state = gathered({"modules": modules, "optimiser": self.optimiser.state_dict()}, keep=main)
        if main:
            write_curve(self.directory / CURVE, self.curve)
            partial = self.directory / f".{STATE}"
            torch.save({"done": self.done, "curve": self.curve, **state}, partial)
            partial.replace(self.directory / STATE)
        self.saved = time.monotonic()

    def _load(self) -> None:
        path = self.directory / STATE
        if not path.is_file():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            load_module(module, state["modules"][name])
        load_optimiser(self.optimiser, state["optimiser"])
        self.done, self.curve = state["done"], state["curve"]


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
