"""Trains a small network for a few steps and writes what came of it; started by torchrun or alone.

sharded_training.py OUT none|full NETWORK PRECISION STEP AT WHICH IT STOPS (-1: none)
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import torch

from genplug.config import TrainConfig
from genplug.resolving import resolve
from genplug.runtime import Run, make_accelerator
from genplug.training import TensorRows
from genplug_ddo.pretrain import pretraining_step

NETWORKS = {
    "points": ("fake-points", "fake-rings", {}),
    "edm2": (
        "edm2",
        "fake-tiles",
        {
            "preset": "none", "resolution": 4, "channels": 1, "num_classes": 2, "model_channels": 16,
            "channel_mult": [1], "num_blocks": 1, "attn_resolutions": [4], "logvar_channels": 16,
        },
    ),
}  # fmt: skip


class Stop(Exception):
    """The end of a training that a later one continues."""


def main(out: str, sharding: str, network: str, precision: str, stop: str) -> None:
    name, dataset, options = NETWORKS[network]
    sets = [(f"generator.{key}", value) for key, value in options.items()]
    sets += [("run.precision", precision), ("runtime.sharding", sharding), ("runtime.device", "cpu")]
    resolved = resolve(
        generator=name, objectives=["pretrain"], dataset=dataset, extractors=["fake-mean"],
        evaluators=["fake-gap"], sets=sets,
    )  # fmt: skip
    accelerator = make_accelerator(resolved.run, resolved.runtime)
    run = Run(accelerator, resolved.run, Path(out), catalog=resolved.catalog, resolved=resolved)
    generator = resolved.generator.config.build(run)
    data = run.dataset("train")
    x = generator.encode(data.read(range(len(data))))
    kinds = set()

    def step(model, batch):
        if batch.step == int(stop):
            raise Stop
        kinds.update(type(p).__name__ for p in generator.module.parameters())
        return pretraining_step(model, batch)

    config = TrainConfig(
        steps=6, batch_size=8, accumulate=2, lr=0.02, clip=0.5, ema_halflife=2.0, ema_std=(0.1,),
        checkpoint_seconds=0,
    )  # fmt: skip
    rows = {"real": TensorRows(x, data.labels)}
    with contextlib.suppress(Stop):
        run.fit("fit", generator, step, rows, config, key={}, snapshots=(3,), dropout=True)
    if run.is_main:
        (Path(out) / "parameters.json").write_text(json.dumps(sorted(kinds)))
    run.wait()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


main(*sys.argv[1:])
