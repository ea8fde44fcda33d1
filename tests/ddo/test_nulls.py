"""Pairs and rows without labels: their weights, what they train, who may have them; and controls."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.condition import Condition
from genplug.errors import CapabilityError, ConfigError
from genplug.fit import Batch
from genplug.matching import match
from genplug.random import NoiseSource
from genplug.resolving import resolve
from genplug.training import frozen
from genplug_ddo.compute import evaluations
from genplug_ddo.config import DdoConfig
from genplug_ddo.ddo import ddo_step
from genplug_ddo.loss import ddo_loss
from genplug_ddo.pretrain import pretraining_step
from genplug_ddo.ratio import training_levels
from genplug_ddo.rows import null_rows

SMALL = [("run.samples", 20), ("run.blocks", 1), ("objective.train.batch_size", 8)]
FEW = [("objective.train.steps", 3), ("objective.pool", 16), ("objective.select_samples", 16)]
SCORES = [("objective.select_evaluator", "fake-gap"), ("objective.select", "gap")]
SCORES += [("objective.select_extractor", "fake-mean"), ("objective.select_blocks", 1)]


def digits(**options: Any) -> Any:
    return genplug.load("edm2.digits", **options)


def pairs(n: int = 12) -> Batch:
    """Images and labels that no generator made; what they are does not matter."""
    x = torch.randn(2 * n, 1, 8, 8, generator=torch.Generator().manual_seed(4)) * 0.5
    labels = torch.arange(2 * n) % 10
    rows = {
        "real": (x[:n], Condition(labels_N=labels[:n])),
        "fake": (x[n:], Condition(labels_N=labels[n:])),
    }
    return Batch(rows, NoiseSource(torch.arange(n)), 0)


def trained_by(model: Any, loss_N: torch.Tensor) -> list[torch.Tensor]:
    model.module.zero_grad()
    loss_N.mean().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.module.parameters()]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_the_loss_of_pairs_with_and_without_labels(alpha: float, legacy: bool) -> None:
    """Methods 2.3, written out pair by pair; for alpha above 1 the legacy real weight is 1 / alpha of it."""
    real, fake, beta = [0.7, -1.2, 2.0, 0.0], [0.3, 0.4, -3.0, 1.5], 0.6
    null = [False, True, True, False]

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    expected = []
    for r, f, dropped in zip(real, fake, null, strict=True):
        w_real = (1.0 if legacy else max(alpha, 1.0)) if dropped else 1.0
        w_fake = 0.0 if dropped else alpha
        pair = -w_real * math.log(sigmoid(beta * r)) - w_fake * math.log(1 - sigmoid(beta * f))
        expected.append(pair / max(alpha, 1.0))
    found = ddo_loss(torch.tensor(real), torch.tensor(fake), alpha, beta, torch.tensor(null), legacy)
    torch.testing.assert_close(found.loss_N, torch.tensor(expected))
    both = [ddo_loss(*map(torch.tensor, (real, fake)), alpha, beta, torch.tensor(null), x) for x in (0, 1)]
    assert torch.equal(both[0].loss_N, both[1].loss_N) == (alpha <= 1)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pair_without_label_trains_the_null_branch_as_plain_training_does(legacy: bool) -> None:
    """Its first gradient is beta/2 times that of lambda ||D - x||^2 under no label; legacy: 1/alpha of it."""
    model, alpha, beta = digits().clone(), 4.0, 0.3
    model.module.requires_grad_(True)
    batch, levels = pairs(), training_levels(model, None, None)
    config = DdoConfig(uncond_ratio=0.99, legacy_null_weight=legacy)
    null_N = null_rows(batch.draws, config.uncond_ratio)
    assert null_N is not None
    assert bool(null_N.all())
    found = trained_by(model, ddo_step(model, frozen(model), batch, alpha, beta, levels, config).loss_N)

    x, _ = batch.rows["real"]
    assert levels is not None
    sigma_N, noise = levels.draw(batch.draws), batch.draws.normal(x.shape, "noise")
    noisy = x + sigma_N.reshape(-1, 1, 1, 1) * noise
    error_N = (model.denoise(noisy, sigma_N, Condition(count=len(x))) - x).square().flatten(1).sum(1)
    share = 1 / alpha if legacy else 1.0
    plain = trained_by(model, share * beta / 2 * levels.weight(sigma_N) * error_N)
    for got, wanted in zip(found, plain, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_no_dropped_labels_change_nothing_and_a_share_of_them_is_dropped_by_seed() -> None:
    draws = NoiseSource(torch.arange(4000))
    assert null_rows(draws, 0.0) is None
    null_N = null_rows(draws, 0.1)
    assert null_N is not None
    assert 0.08 < float(null_N.float().mean()) < 0.12
    assert torch.equal(null_rows(NoiseSource(torch.arange(7, 20)), 0.1), null_N[7:20])  # type: ignore[arg-type]


def test_label_dropout_trains_the_branch_without_labels() -> None:
    """With all labels dropped the step is plain training without any."""
    model, batch = digits(), pairs()
    x, cond = batch.rows["real"]
    assert cond is not None
    found = pretraining_step(model, batch, 1.0).loss_N
    torch.testing.assert_close(found, model.training_loss(x, cond.null(), batch.draws) / x[0].numel())
    assert not torch.allclose(found, pretraining_step(model, batch).loss_N)


def test_a_generator_trained_without_labels_too_says_so_when_restored(tmp_path: Path) -> None:
    sets = [*SMALL, ("objective.train.steps", 2), ("objective.label_dropout", 0.1), ("run.evaluators", [])]
    genplug.run(
        resolved=resolve(
            generator="edm2.digits", objectives=["pretrain"], dataset="digits", extractors=[], sets=sets
        ),
        out=tmp_path / "x",
    )
    improved, base = genplug.load(f"{tmp_path}/x"), genplug.load(f"{tmp_path}/x:base")
    assert improved.provides - base.provides == {"unconditional"}


@pytest.mark.parametrize(
    ("objective", "key", "lacking"),
    [
        ("ddo", "uncond_ratio", "class-conditional, null-label|unconditional"),
        ("pretrain", "label_dropout", "class-conditional, null-label"),
        ("cca", "uncond_ratio", "class-conditional, null-label|unconditional"),
    ],
)
def test_dropping_labels_of_a_generator_without_a_null_label_is_one_line(
    objective: str, key: str, lacking: str
) -> None:
    with pytest.raises(CapabilityError) as caught:
        match(
            resolve(
                generator="fake-points",
                objectives=[objective],
                dataset="fake-rings",
                sets=[(f"objective.{key}", 0.1)],
            )
        )
    text = str(caught.value)
    assert f"objective {objective!r} needs" in text
    assert lacking in text
    assert "Generators that fit: " in text
    assert "edm2" in text
    assert "\n" not in text


def test_legacy_weights_without_dropped_labels_are_one_line() -> None:
    with pytest.raises(ConfigError, match="legacy_null_weight has no effect without uncond_ratio"):
        resolve(
            generator="edm2.digits",
            objectives=["ddo"],
            dataset="digits",
            sets=[("objective.legacy_null_weight", True)],
        )


def test_ddo_runs_with_pairs_without_labels(tmp_path: Path) -> None:
    sets = [*SMALL, *FEW, *SCORES, ("objective.uncond_ratio", 0.5), ("objective.alpha", 2.0)]
    genplug.run(
        resolved=resolve(
            generator="edm2.digits",
            objectives=["ddo.digits"],
            dataset="digits",
            extractors=["fake-mean"],
            evaluators=["fake-gap"],
            sets=[*sets, ("objective.rounds", 1)],
        ),
        out=tmp_path / "x",
    )
    lines = (tmp_path / "x/stages/1-ddo/round-1/fit-1/curve.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert first["square_real"] == first["square_fake"] == 0
    # Of 8 pairs k lose their label: 3 ln 2 for those with one, 2 ln 2 for those without.
    assert first["objective"] / math.log(2) * 8 == pytest.approx(round(first["objective"] / math.log(2) * 8))


@pytest.mark.parametrize("generator", ["fake-points", "fake-tokens"])
def test_the_control_trains_plainly_for_as_many_passes(generator: str, tmp_path: Path) -> None:
    """8 passes a pair, one for each evaluation of a pool or selection sample; 3 a row of plain training."""
    data = {"fake-points": "fake-rings", "fake-tokens": "fake-tiles"}[generator]
    rest = {"extractors": ["fake-mean"], "evaluators": ["fake-gap"], "dataset": data}
    sets = [*SMALL, *FEW, *SCORES, ("objective.rounds", 2), ("run.control", True)]
    genplug.run(
        resolved=resolve(generator=generator, objectives=["ddo"], sets=sets, **rest), out=tmp_path / "x"
    )
    events = [json.loads(line) for line in (tmp_path / "x/events.jsonl").read_text().splitlines()]
    found = next(event for event in events if event["event"] == "control")
    each = evaluations(genplug.load(f"{tmp_path}/x:base"))
    passes = 8 * (2 * 3 * 8) + each * (2 * 16 + (1 + 2 * 3) * 16)
    assert found["passes"] == passes
    assert found["steps"] == math.ceil(passes / (3 * 8))
    metrics = json.loads((tmp_path / "x/metrics.json").read_text())
    assert {"base", "control", "improved"} <= metrics.keys()
    weights = [
        genplug.load(f"{tmp_path}/x:{model}").state_dict() for model in ("base", "control", "improved")
    ]
    assert not all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True))
