"""Pools: samples of a generator that an objective trains on, drawn once and kept as a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genplug.checkpoints import digest, load_weights, save_weights
from genplug.condition import Condition
from genplug.memory import Fitting
from genplug.runtime import Run
from genplug.sampling import coupled, each_batch
from genplug.training import TensorRows


def draw_pool(
    run: Run,
    name: str,
    generator: Any,
    count: int,
    draw: Callable[[Tensor, Condition | None], Tensor],
    *,
    key: Mapping[str, Any] | None = None,
    block: int = 0,
) -> TensorRows:
    """Return `count` samples with their labels, made by `draw(seeds_N, cond)` of the generator.

    `draw` is `generator.sample`, `generator.sample_x`, or does more, which `key` then tells. Seeds are
    of purpose `pool` and of that block; conditions are as the run draws its classes.
    """
    seeds_N = run.seeds("pool", count, block)

    def write(path: Path, batch_seeds_N: Tensor, fitting: Fitting) -> None:
        cond = generator.conditions(batch_seeds_N, run.settings.classes)

        def part(start: int, stop: int) -> Tensor:
            taken = cond.take(slice(start, stop)) if cond is not None else None
            return draw(batch_seeds_N[start:stop], taken).cpu()

        x = fitting.rows(len(batch_seeds_N), part)
        labels = {"labels": cond.labels_N} if cond is not None and cond.labels_N is not None else {}
        save_weights({"x": x, **labels}, path)

    def work(partial: Path) -> None:
        size, whole = run.settings.batch_size, coupled(generator)
        each_batch(run, seeds_N, size, partial, ".safetensors", "reference samples", write, whole)

    whole_key = {"weights": digest(generator.state_dict()), "count": count, "block": block}
    directory = run.stage(name, {**whole_key, "batch": run.settings.batch_size, **(key or {})}, work)
    parts = [load_weights(path) for path in sorted(directory.glob("batch-*.safetensors"))]
    labels = torch.cat([part["labels"] for part in parts]) if "labels" in parts[0] else None
    return TensorRows(torch.cat([part["x"] for part in parts]), labels)
