"""Plain training: it learns, and a post-hoc average is what tracking would have given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.checkpoints import load_weights
from genplug.errors import ConfigError
from genplug.resolving import resolve


def train(
    out: Path, sets: list[tuple[str, Any]], generator: str = "fake-points", dataset: str = "fake-rings"
) -> Path:
    small = [("run.samples", 20), ("run.blocks", 2), ("objective.train.batch_size", 32)]
    resolved = resolve(
        generator=generator,
        objectives=["pretrain"],
        dataset=dataset,
        extractors=["fake-mean"],
        evaluators=["fake-gap"],
        sets=[*small, *sets],
    )
    genplug.run(resolved=resolved, out=out)
    return out / "stages/1-pretrain/fit"


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_weights(out / "generator/1-pretrain/weights.safetensors")


def test_the_loss_falls(tmp_path: Path) -> None:
    fit = train(tmp_path / "x", [("objective.train.steps", 150), ("objective.train.lr", 0.01)])
    losses = [json.loads(line)["loss"] for line in (fit / "curve.jsonl").read_text().splitlines()]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_a_posthoc_average_equals_the_tracked_one(tmp_path: Path) -> None:
    """Reconstruct length 0.07 from stored 0.05 and 0.10; tracking 0.07 itself is the closed answer."""
    common = [("objective.train.steps", 64), ("objective.train.lr", 0.02)]
    stored = [
        ("objective.train.ema_std", [0.05, 0.1]),
        ("objective.snapshots", 8),
        ("objective.posthoc_std", 0.07),
    ]
    train(tmp_path / "posthoc", [*common, *stored])
    train(tmp_path / "tracked", [*common, ("objective.train.ema_std", [0.07])])
    got, expected = weights(tmp_path / "posthoc"), weights(tmp_path / "tracked")
    raw = load_weights(tmp_path / "tracked/stages/1-pretrain/fit/step-00000064.raw.safetensors")
    error = sum(float((got[key] - expected[key]).square().sum()) for key in got)
    distance = sum(float((raw[key] - expected[key]).square().sum()) for key in got)
    assert error < 0.01 * distance


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    common = [("objective.train.steps", 5), ("objective.train.lr", 0.01)]
    train(tmp_path / "one", common)
    train(tmp_path / "four", [*common, ("objective.train.accumulate", 4)])
    one, four = weights(tmp_path / "one"), weights(tmp_path / "four")
    assert all(torch.allclose(one[key], four[key], atol=1e-5) for key in one)


def test_edm2_trains_with_its_own_invariant(tmp_path: Path) -> None:
    """After every step the stored weights have unit magnitude, as forced normalisation leaves them."""
    sets = [("generator.preset", "none"), ("objective.train.steps", 2), ("objective.train.batch_size", 8)]
    tiny = {
        "resolution": 4,
        "channels": 1,
        "num_classes": 2,
        "model_channels": 16,
        "channel_mult": [1],
        "num_blocks": 1,
    }
    sets += [(f"generator.{key}", value) for key, value in tiny.items()]
    sets += [
        ("generator.attn_resolutions", []),
        ("generator.logvar_channels", 16),
        ("generator.sampler.steps", 3),
    ]
    train(tmp_path / "x", sets, "edm2", "fake-tiles")
    weight = weights(tmp_path / "x")["unet.enc.4x4_block0.conv_res0.weight"]
    norms = weight.flatten(1).norm(dim=1) / weight[0].numel() ** 0.5
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-3)


def test_posthoc_without_averages_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"posthoc_std needs train.ema_std"):
        resolve(
            generator="fake-points",
            objectives=["pretrain"],
            dataset="fake-rings",
            sets=[("objective.posthoc_std", 0.1)],
        )
