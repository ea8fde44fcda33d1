"""The evaluator `cost`: what a sample costs, each number with how it was found."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.protocols import EvalInputs, Generator, Score
from genplug.runtime import Run
from genplug_metrics.config import CostConfig
from genplug_metrics.watching import Calls, LiveBytes, watch_calls


class CostEvaluator:
    """Sample a few images again and watch: parameters, network evaluations, seconds, memory.

    A black box without a torch module has no parameters and no network evaluations to show: those scores are
    left out. The samples are thrown away.
    """

    def __init__(self, config: CostConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return the costs of the generator that made the samples."""
        generator = inputs.generator
        if generator is None:
            raise DataError("cost needs the generator itself, not only its samples")
        count = min(self.config.samples, generator.size or self.config.samples)
        seeds_N = run.seeds("report", count)
        batches = seeds_N.split(run.settings.batch_size)
        with watch_calls() as calls:  # this is the warm-up too: the first call fills caches
            _sample(generator, batches, run)
        seconds = [_timed(generator, batches, run) for _ in range(self.config.repeats)]
        with LiveBytes() as live:
            _sample(generator, batches[:1], run)
        measured = {
            "seconds-per-image": [value / count for value in seconds],
            "megabytes-per-image": [live.peak / 2**20 / len(batches[0])],
            **_of_networks(generator, calls, count),
        }
        how = _how(run, count, len(batches[0]), calls, self.config.repeats)
        return {name: _score(name, values, len(inputs.samples), how) for name, values in measured.items()}


def _sample(generator: Generator, batches: tuple[Tensor, ...], run: Run) -> None:
    """Sample as a run does; the copy to the CPU waits for the device."""
    for seeds_N in batches:
        with torch.inference_mode():
            generator.sample(seeds_N, generator.conditions(seeds_N, run.settings.classes)).cpu()


def _timed(generator: Generator, batches: tuple[Tensor, ...], run: Run) -> float:
    started = time.perf_counter()
    _sample(generator, batches, run)
    return time.perf_counter() - started


def _of_networks(generator: Generator, calls: Calls, count: int) -> dict[str, list[float]]:
    """Return what is known of networks: those that were called, else the weights the generator has."""
    if calls.rows:
        evaluations = sum(calls.rows.values()) / count
        return {"parameters": [calls.parameters], "evaluations-per-image": [evaluations]}
    weights = sum(value.numel() for value in generator.state_dict().values())
    return {"parameters": [weights]} if weights else {}


def _how(run: Run, count: int, batch: int, calls: Calls, repeats: int) -> dict[str, dict[str, Any]]:
    """Return how each number was found."""
    by_network = {name: rows / count for name, rows in calls.rows.items()}
    place = {"device": str(run.device), "threads": torch.get_num_threads(), "batch_size": batch}
    networks = "of the networks that sampling called" if calls.rows else "numbers in the generator's weights"
    return {
        "parameters": {"measured": networks, "networks": sorted(by_network)},
        "evaluations-per-image": {
            "measured": f"rows of the outermost network calls for {count} samples, over their number",
            "networks": by_network,
        },
        "seconds-per-image": {
            "measured": f"wall time of {count} samples, median of {repeats} repeats after a warm-up",
            **place,
        },
        "megabytes-per-image": {
            "measured": f"peak MiB of tensors alive at once while a batch of {batch} is sampled, over its "
            "size; without weights and without what single operations use inside",
            **place,
        },
    }


def _score(name: str, values: list[float], n: int, how: dict[str, dict[str, Any]]) -> Score:
    value = statistics.median(values)
    kind = f"range of {len(values)} repeats" if len(values) > 1 else "none: one measurement"
    if name in ("parameters", "evaluations-per-image"):
        kind = "none: a count"
    assert math.isfinite(value)
    return Score(value, min(values), max(values), kind, n, 0, extra=how[name])
