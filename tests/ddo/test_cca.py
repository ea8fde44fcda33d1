"""CCA: its loss, its negatives, and what it teaches."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.checkpoints import load_weights
from genplug.condition import Condition
from genplug.fit import Batch
from genplug.presets import registry
from genplug.random import NoiseSource
from genplug.registry import catalog
from genplug.resolving import resolve
from genplug.training import frozen
from genplug_ddo.cca import OtherLabels, cca_loss, cca_step
from genplug_ddo.config import CcaConfig
from genplug_ddo.ratio import training_levels

DATA = {"fake-points": "fake-rings", "fake-tokens": "fake-tiles"}


def train(out: Path, generator: str, sets: list[tuple[str, Any]]) -> Path:
    small = [("run.samples", 20), ("run.blocks", 1), ("objective.train.batch_size", 32)]
    small += [("objective.uncond_ratio", 0.0)]
    rest = {"dataset": DATA[generator], "extractors": ["fake-mean"], "evaluators": ["fake-gap"]}
    genplug.run(
        resolved=resolve(generator=generator, objectives=["cca"], sets=[*small, *sets], **rest), out=out
    )
    return out / "stages/1-cca/fit"


def test_the_loss_written_out_row_by_row() -> None:
    own, other = [0.4, -2.0, 1.0], [0.9, 0.2, -1.5]
    positive, weight, beta = [False, True, False], 50.0, 0.3

    def log_sigmoid(z: float) -> float:
        return math.log(1 / (1 + math.exp(-z)))

    expected = [
        -(log_sigmoid(beta * a) + (log_sigmoid(beta * b) if p else weight * log_sigmoid(-beta * b))) / weight
        for a, b, p in zip(own, other, positive, strict=True)
    ]
    found = cca_loss(torch.tensor(own), torch.tensor(other), torch.tensor(positive), weight, beta)
    torch.testing.assert_close(found.loss_N, torch.tensor(expected))


@pytest.mark.parametrize("name", ["fake-points", "fake-tokens", "edm2.digits"])
def test_at_the_start_the_log_ratio_is_exactly_zero(name: str) -> None:
    model: Any = genplug.load(name)
    seeds = torch.arange(12)
    cond = model.conditions(seeds)
    batch = Batch({"real": (model.sample_x(seeds, cond), cond)}, NoiseSource(seeds), 0)
    config = CcaConfig(weight=7.0, uncond_ratio=0.3 if name == "edm2.digits" else 0.0)
    levels = training_levels(model, None, None)
    wrong = OtherLabels(torch.arange(2))
    result = cca_step(model, frozen(model), batch, wrong, levels, config)
    for key in ("log_ratio_own", "log_ratio_other"):
        assert torch.equal(result.logs[key], torch.zeros_like(result.logs[key]))
    starts = result.logs["objective"] / math.log(2)
    assert {round(v, 5) for v in starts.tolist()} == {8.0, 2.0}  # 1 + lambda, or two positives


def test_wrong_labels_are_those_of_other_training_samples_by_seed() -> None:
    labels = torch.tensor([0, 0, 0, 5])
    drawn = OtherLabels(labels)(NoiseSource(torch.arange(2000)))
    assert 0.22 < float((drawn == 5).float().mean()) < 0.28
    assert torch.equal(OtherLabels(labels)(NoiseSource(torch.arange(50, 60))), drawn[50:60])


def test_rows_without_label_have_no_negative() -> None:
    """All labels dropped: both halves see no label, and both are positives."""
    model: Any = genplug.load("edm2.digits")
    seen: list[Condition] = []

    class Watching:
        provides, x_shape, noise = model.provides, model.x_shape, model.noise

        def denoise(self, x: Any, sigma_N: Any, cond: Any) -> Any:
            seen.append(cond)
            return x + 1e-3

    seeds = torch.arange(8)
    x = torch.zeros(8, *model.x_shape)
    batch = Batch({"real": (x, Condition(labels_N=seeds % 10))}, NoiseSource(seeds), 0)
    config = CcaConfig(uncond_ratio=0.99)
    result = cca_step(
        Watching(), Watching(), batch, OtherLabels(seeds), training_levels(model, None, None), config
    )
    assert all(bool((cond.labels_N == -1).all()) for cond in seen)
    assert torch.allclose(result.logs["objective"], torch.full((8,), 2 * math.log(2)))


@pytest.mark.parametrize("generator", DATA)
def test_it_learns_to_tell_right_labels_from_wrong_ones(generator: str, tmp_path: Path) -> None:
    sets = [("objective.weight", 1.0), ("objective.beta", 1.0)]
    sets += [("objective.train.steps", 60), ("objective.train.lr", 0.01)]
    fit = train(tmp_path / "x", generator, sets)
    curve = [json.loads(line) for line in (fit / "curve.jsonl").read_text().splitlines()]
    assert curve[0]["accuracy"] == 0.5
    last = [sum(point[key] for point in curve[-20:]) / 20 for key in ("log_ratio_own", "log_ratio_other")]
    assert last[0] > last[1]
    assert sum(point["objective"] for point in curve[-20:]) / 20 < curve[0]["objective"]


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    common = [("objective.train.steps", 4), ("objective.train.lr", 0.01)]
    train(tmp_path / "one", "fake-points", common)
    train(tmp_path / "four", "fake-points", [*common, ("objective.train.accumulate", 4)])
    one, four = (
        load_weights(tmp_path / name / "generator/1-cca/weights.safetensors") for name in ("one", "four")
    )
    assert all(torch.allclose(one[key], four[key], atol=1e-5) for key in one)


def test_the_papers_weights_are_presets_with_sources() -> None:
    data = registry(catalog())
    found = {depth: data.preset(f"cca.var-d{depth}") for depth in (16, 20, 24, 30)}
    weights = {depth: preset.values["weight"] for depth, preset in found.items()}
    assert weights == {16: 50.0, 20: 50.0, 24: 100.0, 30: 1000.0}
    assert all("weight" in preset.sources for preset in found.values())
