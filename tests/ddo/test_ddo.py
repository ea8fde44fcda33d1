"""DDO: its loss at the start, its gradient, and whole runs on every kind of generator."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.errors import ConfigError, NonFiniteError
from genplug.fit import Batch
from genplug.random import NoiseSource
from genplug.resolving import resolve
from genplug.training import frozen
from genplug_ddo.config import DdoConfig
from genplug_ddo.ddo import ddo_step
from genplug_ddo.ratio import training_levels

SCORES = [
    ("objective.select_evaluator", "fake-gap"),
    ("objective.select", "gap"),
    ("objective.select_extractor", "fake-mean"),
]
SMALL = [("run.samples", 24), ("run.blocks", 2), ("run.batch_size", 16), *SCORES]
SMALL += [("objective.select_samples", 32), ("objective.train.steps", 12), ("objective.train.batch_size", 16)]
DATA = {"fake-points": "fake-rings", "fake-tokens": "fake-tiles", "fake-latent": "fake-tiles"}


def resolved(generator: str, sets: list[tuple[str, Any]]) -> Any:
    return resolve(
        generator=generator,
        objectives=["ddo"],
        dataset=DATA[generator],
        extractors=["fake-mean"],
        evaluators=["fake-gap"],
        sets=[*SMALL, *sets],
    )


def pairs(generator: Any, n: int = 16) -> Batch:
    """A batch of real and generated rows; what they are does not matter to the tests that use it."""
    seeds = torch.arange(2 * n)
    cond = generator.conditions(seeds)
    x = generator.sample_x(seeds, cond)
    take = lambda s: (x[s], None if cond is None else cond.take(s))  # noqa: E731
    return Batch({"real": take(slice(n)), "fake": take(slice(n, None))}, NoiseSource(torch.arange(n)), 0)


@pytest.mark.parametrize("name", [*DATA, "edm2"])
@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_at_the_start_the_log_ratio_is_exactly_zero(name: str, alpha: float) -> None:
    """Methods 2.6(a): any unshared noise, dropout or precision slip shows here."""
    model = genplug.load(name)
    levels = training_levels(model, None, None)
    result = ddo_step(model, frozen(model), pairs(model), alpha, 0.3, levels, DdoConfig())
    for key in ("log_ratio_real", "log_ratio_fake"):
        assert torch.equal(result.logs[key], torch.zeros_like(result.logs[key]))
    assert torch.allclose(result.logs["objective"], torch.tensor((1 + alpha) * math.log(2)), atol=1e-7)
    assert float(result.logs["accuracy"].mean()) == 0.5


@pytest.mark.parametrize("name", ["fake-points", "fake-latent"])
def test_the_first_gradient_is_half_beta_of_real_minus_alpha_fake_loss(name: str) -> None:
    """Methods 2.6(b): grad L = beta/2 (grad l_real - alpha grad l_fake), l = lambda ||D - x||^2."""
    model, alpha, beta = genplug.load(name).clone(), 0.7, 0.3
    model.module.requires_grad_(True)
    batch, levels = pairs(model), training_levels(model, None, None)
    ddo_step(model, frozen(model), batch, alpha, beta, levels, DdoConfig()).loss_N.mean().backward()
    found = [p.grad.clone() for p in model.module.parameters()]
    model.module.zero_grad()
    real, fake = (model.training_loss(*batch.rows[key], batch.draws).mean() for key in ("real", "fake"))
    (beta / 2 * (real - alpha * fake)).backward()
    for got, parameter in zip(found, model.module.parameters(), strict=True):
        assert torch.allclose(got, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("generator", DATA)
@pytest.mark.parametrize("pool", [-1, 0])
def test_a_whole_run_works_for_denoisers_and_likelihoods(generator: str, pool: int, tmp_path: Path) -> None:
    sets = [
        ("objective.pool", pool),
        ("objective.rounds", 2),
        ("objective.train.lr", 0.02),
        ("objective.reencode", pool == 0),
    ]
    genplug.run(resolved=resolved(generator, sets), out=tmp_path / "x")
    curve = [
        json.loads(line)
        for line in (tmp_path / "x/stages/1-ddo/round-1/fit-1/curve.jsonl").read_text().splitlines()
    ]
    assert curve[0]["objective"] == pytest.approx(2 * math.log(2), abs=1e-6)
    assert curve[0]["square_real"] == 0
    assert curve[-1]["square_real"] > 0
    history = json.loads((tmp_path / "x/stages/1-ddo/selection.json").read_text())
    assert history[0]["label"] == "base"
    assert len(history) in (4, 7)


def test_selection_takes_the_best_candidate_and_never_a_worse_one(tmp_path: Path) -> None:
    sets = [("objective.train.lr", 5.0), ("objective.rounds", 3), ("objective.train.steps", 30)]
    genplug.run(resolved=resolved("fake-points", sets), out=tmp_path / "x")
    history = json.loads((tmp_path / "x/stages/1-ddo/selection.json").read_text())
    chosen = [json.loads(line) for line in (tmp_path / "x/events.jsonl").read_text().splitlines()]
    label = next(event["label"] for event in chosen if event["event"] == "selected")
    assert [item["label"] for item in history if item["chosen"]] == [label]
    usable = [item for item in history if item["score"] is not None]
    assert min(usable, key=lambda item: item["score"])["label"] == label


def test_beta_is_rescaled_by_dimension_or_adapted_to_the_spread(tmp_path: Path) -> None:
    sets = [("objective.beta_mode", "dimension"), ("objective.beta", 0.001)]
    genplug.run(resolved=resolved("fake-points", sets), out=tmp_path / "d")
    labels = [item["label"] for item in json.loads((tmp_path / "d/stages/1-ddo/selection.json").read_text())]
    assert f"beta {0.001 * 3072 / 2:.4g}" in labels[1]
    sets = [("objective.beta_mode", "adapt"), ("objective.adapt_steps", 10)]
    genplug.run(resolved=resolved("fake-points", sets), out=tmp_path / "a")
    curve = [
        json.loads(line)
        for line in (tmp_path / "a/stages/1-ddo/round-1/adapt-1/curve.jsonl").read_text().splitlines()
    ]
    sides = [(p[f"square_{side}"], p[f"log_ratio_{side}"]) for p in curve[-2:] for side in ("real", "fake")]
    spread = sum(math.sqrt(square - mean**2) for square, mean in sides) / 4
    labels = [item["label"] for item in json.loads((tmp_path / "a/stages/1-ddo/selection.json").read_text())]
    assert f"beta {1 / spread:.4g}" in labels[1]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    sets = [("objective.train.lr", 1e30), ("objective.train.warmup", 0.0)]
    with pytest.raises(
        NonFiniteError,
        match=r"loss became \S+ at step \d+ of fit-1; the last good state is kept",
    ):
        genplug.run(resolved=resolved("fake-points", sets), out=tmp_path / "x")
    state = torch.load(tmp_path / "x/stages/1-ddo/round-1/fit-1.partial/state.pt", weights_only=True)
    assert state["done"] >= 1
    assert (tmp_path / "x/stages/1-ddo/round-1/pool").is_dir()


def test_an_unknown_selection_score_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluator 'fake-gap' gives gap, not 'fd'; set objective\.select"):
        genplug.run(resolved=resolved("fake-points", [("objective.select", "fd")]), out=tmp_path / "x")
