"""A gradient that is not finite never reaches the weights, although its loss is finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from genplug.config import TrainConfig
from genplug.errors import NonFiniteError
from genplug.fit import Batch, StepResult
from genplug.testing.workplace import fresh, make_run, resolve_part
from genplug.training import TensorRows

CONFIG = TrainConfig(steps=4, batch_size=8, checkpoint_seconds=0)


def train(directory: Path, bad_step: int) -> Any:
    """Train a small network; at one step the gradient of a term of value zero is not finite."""

    def step(model: Any, batch: Batch) -> StepResult:
        x, cond = batch.rows["real"]
        loss_N = model.training_loss(x, cond, batch.draws)
        if batch.step == bad_step:
            first = next(iter(model.module.parameters()))
            loss_N = loss_N + (first - first.detach()).abs().sqrt().sum()
        return StepResult(loss_N, {})

    generator = fresh(resolve_part("generator", "fake-points", {}))
    rows = TensorRows(torch.randn(16, 2, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2)
    return make_run(directory).fit("fit", generator, step, {"real": rows}, CONFIG, key={})


def test_the_last_good_state_is_kept_and_continued(tmp_path: Path) -> None:
    with pytest.raises(
        NonFiniteError, match=r"a gradient is not finite at step 3 of fit; the last good state"
    ):
        train(tmp_path / "x", bad_step=2)
    state = torch.load(tmp_path / "x/fit.partial/state.pt", weights_only=True)
    assert state["done"] == 2
    assert all(bool(value.isfinite().all()) for value in state["modules"]["raw"].values())
    continued, whole = train(tmp_path / "x", bad_step=-1), train(tmp_path / "y", bad_step=-1)
    for name, value in continued.last.weights().items():
        assert torch.equal(value, whole.last.weights()[name])
