"""Trains a network whose memory grows with the rows of a forward, with or without a limit on memory.

    hungry_training.py OUT SPARE MEGABYTES (0: no limit)

Alone, or in two processes by torchrun; an expected error is one line on stderr.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from genplug.config import TrainConfig
from genplug.errors import GenplugError
from genplug.fit import StepResult
from genplug.log import Silent
from genplug.resolving import resolve
from genplug.runtime import Run, make_accelerator
from genplug.training import TensorRows

EACH = 2**25  # numbers, 128 MiB, that every row takes until its gradient is computed


class Heard(Silent):
    """A log that keeps what is said."""

    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def limit(spare):
    """Let this process take `spare` megabytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + spare * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def step(model, batch):
    x, cond = batch.rows["real"]
    loss_N = model.training_loss(x, cond, batch.draws)
    room = torch.ones(len(x), EACH)  # in one piece, as activations are
    return StepResult(loss_N * room[:, 0], {"square": loss_N.square()})


def main(out, spare):
    resolved = resolve(generator="fake-points", objectives=["pretrain"], dataset="fake-rings",
                       extractors=["fake-mean"], evaluators=["fake-gap"],
                       sets=[("runtime.device", "cpu")])  # fmt: skip
    log, accelerator = Heard(), make_accelerator(resolved.run, resolved.runtime)
    run = Run(accelerator, resolved.run, Path(out), log, resolved.catalog, resolved)
    generator, data = resolved.generator.config.build(run), run.dataset("train")
    config = TrainConfig(steps=3, batch_size=14, lr=0.02)
    rows = {"real": TensorRows(data.read(range(len(data))), data.labels)}
    if int(spare):
        limit(int(spare))
    run.fit("fit", generator, step, rows, config, key={})
    (Path(out) / "warnings.json").write_text(json.dumps(log.warnings))


try:
    main(*sys.argv[1:])
except GenplugError as error:
    sys.exit(f"{type(error).__name__}: {error}")
