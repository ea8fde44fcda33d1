"""Time a DDO step against a plain training step of the same total batch.

    python benchmarks/ddo_step.py [--generator edm2] [--batch 128] [--repeats 15]

A DDO step on N real and N generated rows has one forward and backward of 2N rows, and a forward of
the frozen reference: 4/3 of a plain step on 2N rows, where a backward costs two forwards. Both
are timed in turn within one run, optimiser step and forced normalisation included. Goal: 1.45.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import genplug
from genplug.fit import Batch, StepResult
from genplug.random import NoiseSource
from genplug.training import frozen
from genplug_ddo.ddo import ddo_step
from genplug_ddo.pretrain import pretraining_step
from genplug_ddo.ratio import training_levels

GOAL = 1.45


def rows(model: Any, count: int, first: int) -> tuple[Any, Any]:
    """Return random x with the conditions of their seeds."""
    seeds_N = torch.arange(first, first + count)
    return NoiseSource(seeds_N).normal((count, *model.x_shape), "x") * 0.5, model.conditions(seeds_N)


def stepper(model: Any, step: Callable[[Any], StepResult]) -> Callable[[], float]:
    """Return a function that does one optimiser step and returns its seconds."""
    optimiser = torch.optim.Adam(model.module.requires_grad_(True).parameters(), lr=1e-4)

    def once() -> float:
        started = time.perf_counter()
        optimiser.zero_grad()
        step(model).loss_N.mean().backward()
        optimiser.step()
        model.after_step()
        return time.perf_counter() - started

    return once


def main() -> None:
    """Print medians, ratio and goal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generator", default="edm2")
    parser.add_argument("--batch", type=int, default=128, help="rows of the plain step")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    base, half = genplug.load(options.generator), options.batch // 2
    draws = NoiseSource(torch.arange(options.batch))
    plain_batch = Batch({"real": rows(base, options.batch, 0)}, draws, 0)
    pair_batch = Batch(
        {"real": rows(base, half, 0), "fake": rows(base, half, half)}, NoiseSource(torch.arange(half)), 0
    )
    reference, levels = frozen(base), training_levels(base, None, None)
    plain = stepper(base.clone(), lambda model: pretraining_step(model, plain_batch))
    ddo = stepper(base.clone(), lambda model: ddo_step(model, reference, pair_batch, 1.0, 0.5, levels, False))
    for warm_up in (plain, ddo):
        warm_up()
    times = [(plain(), ddo()) for _ in range(options.repeats)]
    ratio = statistics.median(b / a for a, b in times)
    print(f"plain step  {1e3 * statistics.median(a for a, _ in times):8.1f} ms  ({options.batch} rows)")
    print(f"DDO step    {1e3 * statistics.median(b for _, b in times):8.1f} ms  ({half} pairs)")
    print(f"ratio       {ratio:8.2f}     (median of {options.repeats} pairs; goal {GOAL})")


if __name__ == "__main__":
    main()
