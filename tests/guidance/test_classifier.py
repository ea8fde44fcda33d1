"""Classifiers of noised x: networks, training, what they are worth, given files, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.checkpoints import load_weights, save_weights
from genplug.errors import CapabilityError, ConfigError, DataError, WeightsError
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug.resolving import resolve
from genplug_guidance.classifier_networks import make_network
from genplug_guidance.classifier_training import draw_levels, level_options
from genplug_guidance.gradient_config import ClassifierGuidanceConfig, NetworkConfig
from genplug_guidance.vp_time import B0, B1, sigma_of_time, time_of_sigma

SMALL = {
    "run.samples": 16,
    "run.blocks": 1,
    "run.batch_size": 16,
    "objective.train.batch_size": 32,
    "objective.bins": 4,
    "objective.on": "conditional",
}


def guided(out: Path, generator: str = "fake-points", dataset: str = "fake-rings", **options: Any) -> Any:
    sets = SMALL | {key.replace("__", "."): value for key, value in options.items()}
    resolved = resolve(
        generator=generator,
        objectives=["classifier-guidance"],
        dataset=dataset,
        extractors=["fake-mean"],
        evaluators=["fake-gap"],
        sets=list(sets.items()),
    )
    return genplug.run(resolved=resolved, out=out)


@pytest.mark.parametrize(
    ("kind", "x_shape"),
    [
        ("linear", (2,)),
        ("mlp", (2,)),
        ("mlp", (1, 8, 8)),
        ("cnn", (1, 8, 8)),
        ("cnn", (3, 28, 20)),
        ("unet", (3, 32, 32)),
        ("auto", (4, 2, 2)),
    ],
)
def test_every_network_gives_finite_logits_that_depend_on_x_and_level(kind: Any, x_shape: Any) -> None:
    network = make_network(NetworkConfig(kind=kind, width=16, depth=1), x_shape, 3, seed=0)
    again = make_network(NetworkConfig(kind=kind, width=16, depth=1), x_shape, 3, seed=0)
    sigma_N = torch.tensor([0.002, 0.5, 80.0])
    x = torch.randn(3, *x_shape) * (1 + sigma_N).reshape(-1, *(1 for _ in x_shape))
    state = {name: torch.randn_like(value) * 0.05 for name, value in network.state_dict().items()}
    for one in (network, again):
        one.load_state_dict(state)
    logits = network(x, sigma_N)
    assert logits.shape == (3, 3)
    assert bool(logits.isfinite().all())
    assert torch.equal(logits, again(x, sigma_N))
    assert not torch.allclose(logits, network(x, sigma_N.flip(0)), atol=1e-6)
    assert torch.allclose(network(x[1:2], sigma_N[1:2]), logits[1:2], atol=1e-5)


def test_a_network_that_does_not_fit_x_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"kind 'cnn' takes images, not x of shape \(2,\); set objective"):
        make_network(NetworkConfig(kind="cnn"), (2,), 2, seed=0)
    with pytest.raises(ConfigError, match="kind 'unet' takes square x of 8, 16, 32"):
        make_network(NetworkConfig(kind="unet"), (3, 28, 28), 2, seed=0)


def test_the_linear_classifiers_boundary_is_flat() -> None:
    """Its logits at one level are an affine function of x: the gradient is the same everywhere."""
    network = make_network(NetworkConfig(kind="linear"), (2,), 2, seed=0)
    x = torch.randn(2, 6, 2)
    sigma_N = torch.full((6,), 0.7)
    middle = network((x[0] + x[1]) / 2, sigma_N)
    assert torch.allclose(middle, (network(x[0], sigma_N) + network(x[1], sigma_N)) / 2, atol=1e-6)


def test_training_levels_are_the_generators_uniform_or_those_of_discriminator_guidance() -> None:
    noise, draws = NoiseSpec(log_mean=-1.0, log_std=0.5), NoiseSource(torch.arange(20_000))

    def logs(**options: Any) -> torch.Tensor:
        config = ClassifierGuidanceConfig(**options)
        return draw_levels(level_options(config, noise), noise, draws).log().double()

    own = logs()
    assert (float(own.mean()), float(own.std())) == pytest.approx((-1.0, 0.5), abs=0.02)
    uniform = logs(levels="uniform", level_range=(0.1, 10.0)).exp()
    assert 0.1 <= float(uniform.min()) < 0.101
    assert 9.9 < float(uniform.max()) <= 10.0
    # the published inverse distribution function: t(u) with A(t) = ln(1 - exp(-B)) + B linear in u
    u = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    A = [2 * torch.log(torch.tensor(sigma_of_time(t), dtype=torch.float64)) for t in (1e-5, 1.0)]
    t = (-B0 + (B0**2 + 2 * (B1 - B0) * ((A[0] + u * (A[1] - A[0])).exp() + 1).log()).sqrt()) / (B1 - B0)
    expected = torch.tensor([sigma_of_time(float(one)) for one in t]).log()
    assert torch.allclose(logs(levels="vp").quantile(u), expected.double(), atol=0.1)
    assert time_of_sigma(sigma_of_time(0.37)) == pytest.approx(0.37)
    assert sigma_of_time(1.0) == pytest.approx(152.17, rel=1e-3)


def test_a_trained_classifier_is_recorded_saved_and_restored(tmp_path: Path) -> None:
    guided(tmp_path / "x", objective__train__steps=150, objective__train__lr=0.01, run__control=True)
    (found,) = (tmp_path / "x").glob("stages/shared/classifier-*/accuracy/accuracy.json")
    record = json.loads(found.read_text())
    assert record["chance"] == pytest.approx(0.5, abs=0.15)
    low, high = record["bands"][0], record["bands"][-1]
    assert low["accuracy"] > 0.9 > high["accuracy"]
    assert low["accuracy_low"] <= low["accuracy"] <= low["accuracy_high"]
    assert low["n"] == 40
    events = [json.loads(line) for line in (tmp_path / "x/events.jsonl").read_text().splitlines()]
    assert any(event["event"] == "classifier" and "n = 40" in event["best"] for event in events)
    improved, base = (genplug.load(f"{tmp_path / 'x'}:{role}") for role in ("improved", "base"))
    seeds = torch.arange(16)
    samples = improved.sample(seeds, improved.conditions(seeds))
    (stored,) = (tmp_path / "x/samples/improved").rglob("*.npz")
    seeds = torch.from_numpy(__import__("numpy").load(stored)["seeds"])
    assert torch.allclose(
        improved.sample(seeds, improved.conditions(seeds)),
        torch.from_numpy(__import__("numpy").load(stored)["arr_0"]),
        atol=1e-5,
    )
    assert not torch.allclose(samples, base.sample(torch.arange(16), base.conditions(torch.arange(16))))


def test_an_unconditional_generator_gets_the_classifiers_labels(tmp_path: Path) -> None:
    options = {"objective__on": "unconditional", "objective__train__steps": 60, "objective__force": True}
    guided(tmp_path / "x", "fake-latent", "fake-tiles", **options)
    improved = genplug.load(f"{tmp_path / 'x'}:improved")
    assert {"class-conditional", "unconditional", "guided"} <= improved.provides
    cond = improved.conditions(torch.arange(4))
    assert cond is not None
    assert cond.labels_N.tolist() == [0, 1, 0, 1]
    x, sigma_N = torch.randn(4, 4, 2, 2), torch.ones(4)
    base = genplug.load(f"{tmp_path / 'x'}:base")
    plain = base.denoise(x, sigma_N, None)
    assert torch.allclose(improved.denoise(x, sigma_N, cond.null()), plain, atol=1e-6)
    assert not torch.allclose(improved.denoise(x, sigma_N, cond), plain, atol=1e-6)


def _shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the meaning out of the labels."""
    from genplug_fakes.parts import Rings

    def split(self: Any, name: str) -> Any:
        found = whole(self, name)
        order = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(3))
        return type(found)(found.samples, found.labels[order], f"{found.name}:shuffled")

    whole = Rings.split
    monkeypatch.setattr(Rings, "split", split)


def test_a_classifier_at_chance_is_refused_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shuffled(monkeypatch)
    options = {"objective__train__steps": 40}
    line = r"at chance on held-out rows \(accuracy 0\.\d+ in \[0\.\d+, 0\.\d+\] .*, n = 40, chance 0\.\d+\); "
    with pytest.raises(ConfigError, match=line):
        guided(tmp_path / "x", **options)
    guided(tmp_path / "y", objective__force=True, **options)
    events = (tmp_path / "y/events.jsonl").read_text()
    assert '"at_chance": true, "forced": true' in events


def test_a_given_classifier_is_used_and_one_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "linear.safetensors"
    weight = torch.tensor([[-5.0, 0.0, 0.0], [5.0, 0.0, 0.0]])  # the classes lie left and right
    save_weights({"layer.weight": weight, "layer.bias": torch.zeros(2)}, path)
    given = {"objective__classifier": str(path), "objective__network__kind": "linear"}
    guided(tmp_path / "x", **given)
    (saved,) = (tmp_path / "x/generator").rglob("classifier.safetensors")
    assert torch.equal(load_weights(saved)["layer.weight"], weight)
    save_weights({"layer.weight": weight[:, :2], "layer.bias": torch.zeros(2)}, path)
    with pytest.raises(
        WeightsError, match=r"layer.weight is \(2, 2\), not \(2, 3\); set objective.network to"
    ):
        guided(tmp_path / "y", **given)
    with pytest.raises(WeightsError, match="no weights at"):
        guided(tmp_path / "z", **given | {"objective__classifier": str(tmp_path / "absent.safetensors")})


def test_published_adm_weights_load_by_their_own_names(golden: Path) -> None:
    """The golden classifier of guided-diffusion, through this package's options and ADM's names."""
    from safetensors import safe_open

    from genplug_adm.classifier import NoisyClassifier
    from genplug_adm.schedule import DiscreteNoise
    from genplug_adm.unet import EncoderUNetModel

    with safe_open(golden / "adm_classifier_a.safetensors", "pt") as file:
        options = json.loads(file.metadata()["meta"])["nets"]["net"]["kwargs"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = EncoderUNetModel(**options)
    network.load_state_dict(
        {name.removeprefix("weights/"): v for name, v in tensors.items() if name.startswith("weights/")}
    )
    noise = DiscreteNoise.of("linear", 1000)
    t, x_t, y = tensors["in/t"], tensors["in/x"], tensors["in/y"]
    sigma_N = noise.at(t)
    x = x_t * (1 + sigma_N**2).sqrt().reshape(-1, 1, 1, 1)
    from genplug.condition import Condition
    from genplug_guidance.classifier import ClassPotential
    from genplug_guidance.gradient import gradient

    potential = ClassPotential(NoisyClassifier(network, noise).eval())
    value_N, grad = gradient(potential, x, sigma_N, Condition(labels_N=y))
    expected = tensors["out/grad_log_prob"] * (1 + sigma_N**2).rsqrt().reshape(-1, 1, 1, 1)
    assert float((grad - expected).abs().max()) < 2e-4 * float(expected.abs().max())
    log_p = tensors["out/logits"].log_softmax(1)[torch.arange(len(y)), y]
    assert torch.allclose(value_N, log_p, atol=1e-4)


def test_what_cannot_be_classified_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CapabilityError, match=r"'classifier-guidance' needs .*unconditional; generator 'fake-p"
    ):
        guided(tmp_path / "x", objective__on="unconditional")
    with pytest.raises(
        CapabilityError, match="exact needs data with a known density, which fake-rings has not"
    ):
        guided(tmp_path / "y", objective__classifier="exact")
    with pytest.raises(ConfigError, match="level_range needs levels = uniform"):
        guided(tmp_path / "z", objective__level_range=[0.1, 1.0])
    sets = [("generator.sampler.steps", 4), ("objective.on", "unconditional"), ("dataset.train", 20)]
    resolved = resolve(generator="toy", objectives=["classifier-guidance"], dataset="fractal", sets=sets)
    with pytest.raises(DataError, match="classifier-guidance needs data with at least two classes; fractal"):
        genplug.run(resolved=resolved, out=tmp_path / "w")


def test_killed_in_the_classifiers_training_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    sets = SMALL | {"objective.train.steps": 200, "objective.train.checkpoint_seconds": 0}
    words = [sys.executable, "-m", "genplug", "run", "-g", "fake-points", "-o", "classifier-guidance"]
    words += ["--dataset", "fake-rings", "--extractor", "fake-mean", "--evaluator", "fake-gap"]
    words += [word for k, v in sets.items() for word in ("--set", f"{k}={json.dumps(v)}")]
    words += ["--out", str(tmp_path / "x"), "--quiet"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    state, deadline = "stages/shared/classifier-*/classifier.partial/state.pt", time.monotonic() + 120
    while not list((tmp_path / "x").glob(state)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list((tmp_path / "x").glob(state))
    options = {"objective__train__steps": 200, "objective__train__checkpoint_seconds": 0}
    continued, at_once = (guided(tmp_path / name, **options).metrics for name in ("x", "y"))
    assert continued["improved"] == at_once["improved"]
    weights = [
        load_weights(next((tmp_path / name / "generator").rglob("classifier.safetensors"))) for name in "xy"
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
