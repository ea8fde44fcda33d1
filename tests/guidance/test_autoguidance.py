"""Autoguidance: the published samples, guides that are named or made, kept, chained and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import genplug
from genplug.condition import Condition
from genplug.errors import CapabilityError, ConfigError, RunDirectoryError, WeightsError
from genplug.guided import guided
from genplug.random import NoiseSource
from genplug_guidance.strength import Strength

NETWORK = ("model_channels", "channel_mult", "num_blocks", "attn_resolutions", "channels_per_head")
SETTINGS: dict[str, Any] = {
    "generator.preset": "none",
    "generator.num_classes": 2,
    "generator.width": 16,
    "generator.depth": 2,
    "generator.sampler.steps": 4,
    "dataset.classes": "both",
    "dataset.train": 200,
    "dataset.held_out": 200,
    "run.samples": 40,
    "run.blocks": 1,
    "run.batch_size": 20,
    "run.extractors": ["pixels"],
    "run.evaluators": ["frechet"],
}
TRAIN = {"train.steps": 5, "train.batch_size": 32}


def run(out: Path, objectives: list[str], sweep: str | None = None, **options: Any) -> Any:
    settings = SETTINGS | {key.replace("__", "."): value for key, value in options.items()}
    chosen = {"generator": "toy", "objectives": objectives, "dataset": "fractal", "sweep": sweep}
    return genplug.run(resolved=genplug.resolve(**chosen, sets=list(settings.items())), out=out)


def trained(number: str = "", **options: Any) -> dict[str, Any]:
    return {f"objective.{number}{key}": value for key, value in TRAIN.items()} | options


class Published(NoiseSource):
    """The golden start noise."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__(torch.arange(len(noise)))
        self.noise = noise

    def normal(self, shape: Any, step: Any) -> Tensor:
        return self.noise


def test_a_pair_of_edm2_networks_gives_the_published_samples(golden: Path) -> None:
    """Through a strength by noise level, as the objective makes it."""
    path = golden / "edm2_sampler_a.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["meta"])

    def network(name: str) -> Any:
        values = {key: meta["nets"][name]["kwargs"][key] for key in (*NETWORK, "logvar_channels")}
        values |= {"resolution": 8, "channels": 4, "num_classes": 5, "fp16": False, "sampler__steps": 8}
        generator = genplug.load("edm2", preset="none", **values)
        prefix = f"weights/{name}/"
        generator.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if prefix in k})
        return generator

    pair: Any = guided(network("net"), network("gnet"), Strength(meta["runs"]["guided"]["guidance"]))
    noise, cond = tensors["in/noise"], Condition(weights_NK=tensors["in/labels"])
    sigmas = pair.sampler.sigmas(pair.noise)
    with torch.no_grad():
        got = pair.sampler.sample(
            lambda x, sigma_N: pair.denoise(x, sigma_N, cond), noise * sigmas[0], sigmas, Published(noise)
        )
    expected = tensors["out/guided"]
    assert (got - expected).abs().max() <= 2e-4 * expected.std()


def test_a_smaller_and_less_trained_guide_is_made_kept_and_loaded(tmp_path: Path) -> None:
    run(
        tmp_path / "x", ["autoguidance"], **trained(objective__guide_options={"width": 8}, objective__scale=3)
    )
    base, improved = (genplug.load(f"{tmp_path}/x:{role}") for role in ("base", "improved"))
    guide = improved.denoiser.pushes[0].guide
    assert guide.module.out.in_features == 8
    x, sigma_N = torch.randn(4, 2), torch.tensor([0.1, 0.5, 1.0, 3.0])
    cond = base.conditions(torch.arange(4))
    D, G = base.denoise(x, sigma_N, cond), guide.denoise(x, sigma_N, cond)
    torch.testing.assert_close(improved.denoise(x, sigma_N, cond), G + 3 * (D - G))


def test_a_sweep_of_scales_trains_one_guide(tmp_path: Path) -> None:
    done = run(tmp_path / "x", ["autoguidance"], sweep="objective.scale=1,2", **trained())
    assert len(list((tmp_path / "x" / "stages" / "shared").iterdir())) == 1
    assert done.metrics["scale=1"] == done.metrics["base"]
    assert done.metrics["scale=2"] != done.metrics["base"]


def test_an_earlier_snapshot_or_another_average_is_a_guide(tmp_path: Path) -> None:
    """Its weights are kept with the result: the run that they came from may go."""
    settings = trained(objective__train__steps=8, objective__snapshots=2, objective__train__ema_halflife=2.0)
    run(tmp_path / "first", ["pretrain"], **settings)
    early = next(iter((tmp_path / "first").rglob("step-00000004.ema.safetensors")))
    weights = next(iter((tmp_path / "first" / "generator").rglob("*.safetensors")))
    run(
        tmp_path / "x",
        ["autoguidance"],
        generator__weights=str(weights),
        objective__guide_weights=str(early),
        objective__sigma_high=2.0,
    )
    expected = load_file(early)
    early.unlink()
    guide = genplug.load(f"{tmp_path}/x:improved").denoiser.pushes[0].guide
    assert all(torch.equal(value, expected[name]) for name, value in guide.module.state_dict().items())


def test_a_run_is_a_guide_as_long_as_it_has_the_same_weights(tmp_path: Path) -> None:
    run(tmp_path / "worse", ["pretrain"], **trained())
    run(tmp_path / "x", ["autoguidance"], objective__guide=f"{tmp_path}/worse:improved")
    improved = genplug.load(f"{tmp_path}/x:improved")
    worse: Any = genplug.load(f"{tmp_path}/worse:improved")
    state = improved.denoiser.pushes[0].guide.module.state_dict()
    assert all(torch.equal(value, worse.state_dict()[name]) for name, value in state.items())
    saved = next(iter((tmp_path / "worse" / "generator").rglob("weights.safetensors")))
    save_file({name: value + 1 for name, value in load_file(saved).items()}, saved)
    with pytest.raises(RunDirectoryError, match="has other weights now; start again with --force"):
        genplug.load(f"{tmp_path}/x:improved")


def test_a_published_pair_is_planned_by_name() -> None:
    resolved = genplug.resolve(
        generator="edm2.img64-s",
        objectives=["autoguidance"],
        sets=[("objective.guide", "edm2.img64-xs-134m-0.110"), ("objective.scale", 1.7)],
    )
    (second,) = genplug.plan(resolved)["second_generators"]
    assert second["generator"] == "edm2.img64-xs-134m-0.110"
    assert "fetch edm2.img64-xs-134m-0.110" in second["weights"]


def test_ddo_and_cfg_go_before_it(tmp_path: Path) -> None:
    """The guides add up; what each has made is restored in order."""
    ddo = {"rounds": 1, "pool": 16, "select_samples": 16, "select_blocks": 1, "checkpoints": 1}
    options = trained("1.") | trained("2.") | trained("3.", objective__3__scale=1.5)
    options |= {f"objective.1.{key}": value for key, value in ddo.items()}
    run(tmp_path / "x", ["ddo", "cfg", "autoguidance"], **options)
    improved: Any = genplug.load(f"{tmp_path}/x:improved")
    assert [push.strength.scale for push in improved.denoiser.pushes] == [2.0, 1.5]
    assert [push.unconditioned for push in improved.denoiser.pushes] == [True, False]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"guide": "toy", "guide_options": {"width": 8}}, ConfigError, "has its own options and weights"),
        ({"guide": "edm2.digits"}, CapabilityError, r"x of shape \(1, 8, 8\), generator 'toy' of \(2,\)"),
        ({"guide_options": {"witdh": 8}}, ConfigError, "'objective.guide_options.witdh'; did you mean"),
        ({"schedule": [1.0]}, ConfigError, "schedule has 1 values, the sampler 4 steps"),
        ({"guide_weights": "gone.safetensors"}, WeightsError, "gone.safetensors"),
    ],
)
def test_a_guide_that_cannot_be_had_is_refused_before_training(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(tmp_path / "x", ["autoguidance"], **{f"objective.{key}": value for key, value in options.items()})
    assert not list((tmp_path / "x").glob("stages/shared/*"))


def test_a_guide_without_weights_is_refused(tmp_path: Path) -> None:
    """A network that was never trained is no worse model of the same kind, it is noise."""
    with pytest.raises(WeightsError, match="guide 'fake-points' has no weights"):
        genplug.run(
            "fake-points",
            ["autoguidance"],
            out=tmp_path / "x",
            dataset__name="fake-rings",
            objective__guide="fake-points",
            run__extractors=["fake-mean"],
            run__evaluators=["fake-gap"],
        )
