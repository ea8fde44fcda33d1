"""Equal compute: how many network passes an objective takes, and plain training for as many.

One pass is one row through the network, forwards; backwards counts twice that. So a plain training
step on B rows takes 3 B. A step on B pairs against a frozen reference takes 8 B: the trained network
forwards and backwards on 2 B rows (6 B), the reference forwards on them (2 B).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from genplug.config import TrainConfig
from genplug.runtime import Run
from genplug.training import training_key, with_weights
from genplug_ddo.pretrain import pretraining_step
from genplug_ddo.rows import training_rows

PLAIN_ROW, PAIR = 3, 8


def evaluations(generator: Any) -> int:
    """Return how often a generator's network is asked for one sample."""
    calls: list[int] = []
    seeds_N = torch.zeros(1, dtype=torch.int64)
    hook = generator.module.register_forward_hook(lambda *_: calls.append(1))
    try:
        generator.sample_x(seeds_N, generator.conditions(seeds_N))
    finally:
        hook.remove()
    return len(calls)


def plain_training(generator: Any, run: Run, train: TrainConfig, passes: int, null_share: float = 0.0) -> Any:
    """Return the generator after plain training, with the same options, for so many network passes."""
    steps = math.ceil(passes / (PLAIN_ROW * train.batch_size))
    run.event("control", passes=passes, steps=steps)
    fit = run.fit(
        "control",
        generator.clone(),
        functools.partial(pretraining_step, null_share=null_share),
        {"real": training_rows(run, generator)},
        train.model_copy(update={"steps": steps}),
        key=training_key(run, generator),
        dropout=True,
    )
    return with_weights(generator, fit.last.weights())
