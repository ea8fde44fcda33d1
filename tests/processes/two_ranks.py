"""Trains a few steps in each of two processes and writes what each of them saw; started by torchrun.

two_ranks.py OUT [STEP AT WHICH ONE LOSS BECOMES NAN]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from genplug.checkpoints import digest
from genplug.config import TrainConfig
from genplug.errors import NonFiniteError
from genplug.fit import StepResult
from genplug.resolving import resolve
from genplug.runtime import Run, make_accelerator
from genplug.training import TensorRows


def main(out: str, poisoned: str = "-1") -> None:
    resolved = resolve(generator="fake-points", objectives=["pretrain"], dataset="fake-rings",
                       extractors=["fake-mean"], evaluators=["fake-gap"],
                       sets=[("runtime.device", "cpu")])  # fmt: skip
    accelerator = make_accelerator(resolved.run, resolved.runtime)
    run = Run(accelerator, resolved.run, Path(out), catalog=resolved.catalog, resolved=resolved)
    generator, data, seen = resolved.generator.config.build(run), run.dataset("train"), []

    def step(model, batch):
        x, cond = batch.rows["real"]
        loss_N = model.training_loss(x, cond, batch.draws)
        if batch.step == int(poisoned) and accelerator.process_index == 1:
            loss_N = loss_N * torch.nan
        seen.append(sorted(batch.draws.seeds_N.tolist()))
        return StepResult(loss_N, {})

    def keep_gradients(optimiser, *_):
        grads = {str(i): p.grad for i, p in enumerate(optimiser.param_groups[0]["params"])}
        gradients.append(digest(grads))

    gradients: list[str] = []
    register_optimizer_step_pre_hook(keep_gradients)
    config = TrainConfig(steps=4, batch_size=12, lr=0.02, checkpoint_seconds=0)
    rows, failure = {"real": TensorRows(data.read(range(len(data))), data.labels)}, ""
    try:
        run.fit("fit", generator, step, rows, config, key={})
    except NonFiniteError as error:
        failure = str(error)
    found = {
        "gradients": gradients,
        "seeds": seen,
        "weights": digest(generator.state_dict()),
        "failure": failure,
    }
    (Path(out) / f"rank-{accelerator.process_index}.json").write_text(json.dumps(found))
    run.wait()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


main(*sys.argv[1:])
