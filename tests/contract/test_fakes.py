"""The contract, proved with a foreign plugin that uses public names only (`tests/fakes`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.errors import CapabilityError, GenplugError
from genplug.resolving import resolve
from genplug.writers import export

POINTS = {"dataset": "fake-rings", "extractors": ["fake-mean"], "evaluators": ["fake-gap"]}
TILES = {**POINTS, "dataset": "fake-tiles"}
SMALL = [("run.samples", 12), ("run.blocks", 2), ("run.batch_size", 5)]
TRAIN = {"steps": 6, "batch_size": 8, "lr": 0.1}


def run(out: Path, generator: str, objectives: list[str], sets: list[tuple[str, Any]], **named: Any) -> Any:
    resolved = resolve(generator=generator, objectives=objectives, sets=[*SMALL, *sets], **named)
    return genplug.run(resolved=resolved, out=out)


def samples(reference: str, seeds: list[int]) -> torch.Tensor:
    generator = genplug.load(reference)
    seeds_N = torch.tensor(seeds)
    return generator.sample(seeds_N, generator.conditions(seeds_N))


CHAINS = {
    "points, trained": ("fake-points", ["pretrain"], [("objective.train", TRAIN)], POINTS),
    "latent, trained": ("fake-latent", ["pretrain"], [("objective.train", TRAIN)], TILES),
    "tokens, trained": ("fake-tokens", ["pretrain"], [("objective.train", TRAIN)], TILES),
    "points, guided": ("fake-points", ["fake-shrink"], [], POINTS),
    "points, second generator": (
        "fake-points",
        ["fake-contrast"],
        [("objective.guide", "fake-points")],
        POINTS,
    ),
    "points, other condition": ("fake-points", ["fake-recondition"], [], POINTS),
    "latent, postprocessed": ("fake-latent", ["fake-shift"], [], TILES),
    "text, postprocessed": ("fake-text", ["fake-shift"], [("objective.by", 7)], TILES),
    "trained, guided, postprocessed": (
        "fake-points",
        ["pretrain", "fake-shrink", "fake-shift"],
        [("objective.1.train", TRAIN), ("objective.3.by", 3)],
        POINTS,
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_every_kind_of_generator_and_stage_runs_is_saved_and_restored(name: str, tmp_path: Path) -> None:
    generator, objectives, sets, named = CHAINS[name]
    result = run(tmp_path / "x", generator, objectives, sets, **named)
    assert set(result.metrics) == {"base", "improved", "floor", "run"}
    seeds = list(range(4))
    first = torch.cat([samples(f"{tmp_path}/x:improved", [seed]) for seed in seeds])
    assert torch.equal(samples(f"{tmp_path}/x", seeds), first) or torch.allclose(
        samples(f"{tmp_path}/x", seeds).float(), first.float(), atol=1e-5
    )
    assert not torch.equal(samples(f"{tmp_path}/x:base", seeds), first)


def test_a_folder_is_a_finite_generator_that_can_only_be_postprocessed(tmp_path: Path) -> None:
    from genplug.samplesets import ArraySet

    export(
        ArraySet(torch.arange(24, dtype=torch.uint8).reshape(24, 1, 1, 1).expand(24, 1, 4, 4).clone()),
        tmp_path / "in",
    )
    sets = [("generator.path", str(tmp_path / "in"))]
    result = run(tmp_path / "x", "fake-folder", ["fake-shift"], sets, **TILES)
    assert result.metrics["improved"]["gap-fake-mean"]["n_generated"] == 12
    with pytest.raises(CapabilityError, match=r"objective 'ddo' needs denoiser\|likelihood, trainable"):
        run(tmp_path / "y", "fake-folder", ["ddo"], sets, **TILES)
    with pytest.raises(GenplugError, match=r"50 samples asked of a generator that has 24"):
        run(tmp_path / "z", "fake-folder", [], [*sets, ("run.samples", 50)], **TILES)


def test_matching_follows_the_chain() -> None:
    with pytest.raises(CapabilityError, match="the result of 'fake-shift' provides class-conditional"):
        resolve(generator="fake-points", objectives=["fake-shift", "fake-shrink"], **POINTS)


def test_a_second_generator_is_checked_before_any_work() -> None:
    with pytest.raises(CapabilityError, match="guide 'fake-tokens' lacks denoiser"):
        resolve(
            generator="fake-points",
            objectives=["fake-contrast"],
            sets=[("objective.guide", "fake-tokens")],
            **POINTS,
        )
    with pytest.raises(CapabilityError, match=r"x of shape \(4, 2, 2\), generator 'fake-points' of \(2,\)"):
        resolve(
            generator="fake-points",
            objectives=["fake-contrast"],
            sets=[("objective.guide", "fake-latent")],
            **POINTS,
        )


def test_a_run_can_be_the_second_generator(tmp_path: Path) -> None:
    run(tmp_path / "guide", "fake-points", ["pretrain"], [("objective.train", TRAIN)], **POINTS)
    sets = [("objective.guide", f"{tmp_path}/guide:improved"), ("objective.scale", 1.0)]
    run(tmp_path / "x", "fake-points", ["fake-contrast"], sets, **POINTS)
    assert torch.allclose(samples(f"{tmp_path}/x", [1, 2]), samples(f"{tmp_path}/x:base", [1, 2]), atol=1e-5)


def test_an_evaluator_can_see_the_generators(tmp_path: Path) -> None:
    result = run(tmp_path / "x", "fake-points", [], [], **{**POINTS, "evaluators": ["fake-cost"]})
    assert result.metrics["base"]["weights"]["value"] == 1314
    assert result.metrics["floor"] == {}


def test_two_processes_make_the_numbers_of_one(tmp_path: Path) -> None:
    """Sampling, training and scoring are shared out; thirteen samples do not divide by two."""
    command = [
        "run",
        "-g",
        "fake-points",
        "-o",
        "pretrain",
        "--dataset",
        "fake-rings",
        "--extractor",
        "fake-mean",
    ]
    command += [
        "--evaluator",
        "fake-gap",
        "--set",
        "objective.train.steps=6",
        "--set",
        "objective.train.batch_size=8",
    ]
    command += ["--set", "run.samples=13", "--set", "run.blocks=2", "--set", "run.batch_size=4", "--quiet"]
    for count in (1, 2):
        out = tmp_path / str(count)
        done = subprocess.run(
            [sys.executable, "-m", "genplug", *command, "--processes", str(count), "--out", str(out)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / str(count) / "metrics.json").read_text()) for count in (1, 2))
    for key in ("base", "improved", "floor"):
        for name, score in one[key].items():
            assert score["n_generated"] == two[key][name]["n_generated"] == 13
            assert score["value"] == pytest.approx(two[key][name]["value"], abs=1e-6)
