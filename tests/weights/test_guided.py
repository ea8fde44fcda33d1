"""Guided pairs: the published outputs, both networks' weights, and what cannot be guided."""

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
from genplug.checkpoints import digest
from genplug.condition import Condition
from genplug.errors import CapabilityError, ConfigError, WeightsError
from genplug.fetching import fetch
from genplug.guided import guided
from genplug.random import NoiseSource

NETWORK = ("model_channels", "channel_mult", "num_blocks", "attn_resolutions", "channels_per_head")


class Pair:
    """The golden networks of the guided run, as files that presets name."""

    def __init__(self, golden: Path, folder: Path) -> None:
        path = golden / "edm2_sampler_a.safetensors"
        self.tensors = load_file(path)
        with safe_open(path, "pt") as file:
            self.meta = json.loads(file.metadata()["meta"])
        text = ""
        for name in ("net", "gnet"):
            kwargs = self.meta["nets"][name]["kwargs"]
            own = {k.removeprefix(f"weights/{name}/"): v for k, v in self.tensors.items()}
            own = {k: v for k, v in own.items() if not k.startswith(("weights", "in/", "out/"))}
            save_file(own, folder / f"{name}.safetensors")
            values = {key: kwargs[key] for key in (*NETWORK, "logvar_channels")}
            values |= {"resolution": 8, "channels": 4, "num_classes": 5, "fp16": False}
            if name == "net":
                values |= {"guide": "edm2.gnet", "guidance": 1.7}
            text += f'[preset."edm2.{name}"]\naddress = "file://{folder}/{name}.safetensors"\n'
            text += f'[preset."edm2.{name}".values]\nsampler = {{ name = "heun", steps = 8 }}\n'
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        (folder / "registry.toml").write_text(text)


class _Given(NoiseSource):
    """The golden start noise."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__(torch.arange(len(noise)))
        self.noise = noise

    def normal(self, shape: Any, step: Any) -> Tensor:
        return self.noise


@pytest.fixture
def pair(golden: Path, here: Path) -> Pair:
    return Pair(golden, here)


def test_a_guided_pair_gives_the_published_samples(pair: Pair) -> None:
    fetch("edm2.net")
    generator = genplug.load("edm2.net")
    noise, labels = pair.tensors["in/noise"], pair.tensors["in/labels"]
    sigmas = generator.sampler.sigmas(generator.noise)
    with torch.no_grad():
        got = generator.sampler.sample(
            lambda x, sigma_N: generator.denoise(x, sigma_N, Condition(weights_NK=labels)),
            noise * sigmas[0],
            sigmas,
            _Given(noise),
        )
    expected = pair.tensors["out/guided"]
    assert (got - expected).abs().max() <= 2e-4 * expected.std()
    assert generator.provides == {"denoiser", "class-conditional", "guided"}


def test_both_are_fetched_and_planned_and_another_guide_is_another_generator(pair: Pair, here: Path) -> None:
    resolved = genplug.resolve(generator="edm2.net", objectives=["none"])
    plan = genplug.plan(resolved)
    assert plan["second_generators"][0]["weights"].endswith("genplug fetch edm2.gnet")
    assert plan["samples"]["evaluations_per_sample"] == 2 * 15
    with pytest.raises(WeightsError, match=r"genplug fetch edm2\.net"):
        genplug.load("edm2.net")
    assert [receipt.preset for receipt in fetch("edm2.net")] == ["edm2.net", "edm2.gnet"]
    first = digest(genplug.load("edm2.net").state_dict())
    weights = load_file(here / "gnet.safetensors")
    save_file(
        {k: v * 1.5 if k == "unet.out_gain" else v for k, v in weights.items()}, here / "other.safetensors"
    )
    text = (here / "registry.toml").read_text().replace("gnet.safetensors", "other.safetensors")
    (here / "registry.toml").write_text(text)
    fetch("edm2.gnet", force=True)
    assert digest(genplug.load("edm2.net").state_dict()) != first


def test_a_missing_guide_stops_sampling_before_it_starts(pair: Pair, here: Path) -> None:
    fetch("edm2.net")
    (here / "registry.toml").write_text(
        (here / "registry.toml").read_text().replace("edm2.gnet", "edm2.other")
    )
    with pytest.raises(WeightsError, match=r"genplug fetch edm2\.other"):
        genplug.sample("edm2.net", 2, out="x.npz")


def test_weights_of_both_survive_saving(pair: Pair) -> None:
    fetch("edm2.net")
    generator = genplug.load("edm2.net")
    state = {name: value.clone() for name, value in generator.state_dict().items()}
    other = genplug.load("edm2.net")
    other.load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
    assert digest(other.state_dict()) != digest(state)
    other.load_state_dict(state)
    assert digest(other.state_dict()) == digest(state)


def test_guidance_is_linear_and_one_asks_no_guide(pair: Pair) -> None:
    fetch("edm2.net")
    main, guide = genplug.load("edm2.net", guidance=1), genplug.load("edm2.gnet")
    assert "trainable" in main.provides
    x, sigma_N = torch.randn(2, 4, 8, 8), torch.tensor([0.5, 2.0])
    with torch.no_grad():
        D, G = (one.denoise(x, sigma_N, None) for one in (main, guide))
        for w in (0.0, 2.5):
            torch.testing.assert_close(guided(main, guide, w).denoise(x, sigma_N, None), G + w * (D - G))
        silent = guided(main, guide.replace(denoiser=_Refuses(guide.denoiser)), 1.0)
        assert torch.equal(silent.denoise(x, sigma_N, None), D)


class _Refuses:
    """A guide that must not be asked."""

    def __init__(self, denoiser: Any) -> None:
        self.x_shape, self.noise, self.provides = denoiser.x_shape, denoiser.noise, denoiser.provides


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidance": 2.0}, "guidance 2 needs one: a preset or a run"),
        ({"guide": "edm2.gnet"}, "has no effect without guidance"),
        ({"guide": "edm2.net", "guidance": 2.0}, r"guide 'edm2\.net' has a guide of its own"),
        ({"guide": "edm2.img64-xs-134m-0.110", "guidance": 2.0}, r"has x of shape \(3, 64, 64\)"),
        ({"guide": "edm2.gnet", "guidance": 2.0, "latent": True}, "one has latents"),
    ],
)
def test_what_cannot_be_guided_is_refused_before_anything_is_built(
    pair: Pair, options: dict[str, Any], words: str
) -> None:
    sets = [(f"generator.{key}", value) for key, value in options.items()]
    sets += [("generator.resolution", 8), ("generator.channels", 4), ("generator.preset", "none")]
    with pytest.raises((ConfigError, CapabilityError), match=words):
        genplug.resolve(generator="edm2", objectives=["none"], sets=sets)
    with pytest.raises((ConfigError, CapabilityError), match=words):
        genplug.load("edm2", **{key.removeprefix("generator."): value for key, value in sets})


def test_a_run_of_a_guided_generator_is_kept_and_loaded_with_its_guide(here: Path) -> None:
    """Guided by itself nothing changes, whatever the strength: the same images, under another key."""
    given = {"samples": 8, "blocks": 1, "batch_size": 8, "extractors": ["pixels"], "evaluators": ["frechet"]}
    options = {f"run__{key}": value for key, value in given.items()}
    pushed = {"generator__guide": "edm2.digits", "generator__guidance": 1.5}
    genplug.run("edm2", ["none"], out="runs/plain", **options)
    genplug.run("edm2", ["none"], out="runs/guided", **options, **pushed)
    seeds_N = torch.arange(4)
    models = [genplug.load(f"runs/{name}:base") for name in ("plain", "guided")]
    plain, both = (model.sample_x(seeds_N, model.conditions(seeds_N)) for model in models)
    assert (plain - both).abs().max() < 1e-4
    stages = [next((here / "runs" / name / "samples").rglob("stage.json")) for name in ("plain", "guided")]
    assert len({json.loads(stage.read_text())["digest"] for stage in stages}) == 2
