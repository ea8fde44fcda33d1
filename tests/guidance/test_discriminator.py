"""Discriminator guidance: exact with the optimal discriminator, and its published sampler."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genplug
from genplug.checkpoints import save_weights
from genplug.condition import Condition
from genplug.guided import pushed
from genplug.protocols import NoiseSpec
from genplug.pushes import Constant
from genplug.random import NoiseSource
from genplug.resolving import resolve
from genplug_adm.classifier import NoisyClassifier
from genplug_adm.unet import EncoderUNetModel
from genplug_guidance.adm_classifier import encoder_options
from genplug_guidance.classifier import Blueprint, RealPotential
from genplug_guidance.discriminator_sampler import DiscriminatorGenerator, DiscriminatorHeun
from genplug_guidance.gradient import GradientPush, gradient
from genplug_guidance.gradient_config import NetworkConfig
from genplug_guidance.strength import Strength
from genplug_guidance.vp_time import sigma_of_time

DATA, GENERATOR = (0.0, 1.0), (0.6, 0.7)  # mean and standard deviation


class Gaussian:
    """The exact denoiser of a Gaussian on a line, counting rows."""

    x_shape, noise, device = (1,), NoiseSpec(), torch.device("cpu")
    provides = frozenset({"denoiser", "unconditional"})

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.variance, self.rows = mean, std**2, 0

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        self.rows += len(x)
        share = self.variance / (self.variance + sigma_N**2)
        return self.mean + share[:, None] * (x - self.mean)

    def log_density(self, x: Tensor, sigma_N: Tensor) -> Tensor:
        variance = self.variance + sigma_N**2
        value: Tensor = -((x[:, 0] - self.mean) ** 2) / (2 * variance) - 0.5 * variance.log()
        return value


class Optimal(nn.Module):
    """The logit of d* = data / (data + generator), counting rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.rows = nn.Parameter(torch.zeros(1)), 0

    def forward(self, x: Tensor, sigma_N: Tensor) -> Tensor:
        self.rows += len(x)
        data, generated = Gaussian(*DATA), Gaussian(*GENERATOR)
        return (data.log_density(x, sigma_N) - generated.log_density(x, sigma_N))[:, None]


def generator(denoiser: Any) -> Any:
    base = genplug.load("fake-points")
    return base.replace(denoiser=denoiser, conditioning=None)


def test_the_optimal_discriminator_makes_the_score_exact() -> None:
    guided = pushed(
        generator(Gaussian(*GENERATOR)), GradientPush(RealPotential(Optimal(), "logit"), Constant(2.0))
    )
    for sigma in (0.01, 0.3, 2.0, 40.0):
        sigma_N = torch.full((21,), sigma)
        x = torch.linspace(-2, 2, 21)[:, None] * (1 + sigma)
        expected = Gaussian(*DATA).denoise(x, sigma_N, None)
        assert torch.allclose(guided.denoise(x, sigma_N, None), expected, rtol=1e-4, atol=2e-5 * (1 + sigma))
    seeds = torch.arange(50)
    expected = generator(Gaussian(*DATA)).sample(seeds)
    assert float((guided.sample(seeds) - expected).abs().max()) < 1e-3


def published(strength: Strength, boosting: bool = False, steps: int = 18) -> tuple[Any, Gaussian, Optimal]:
    denoiser, network = Gaussian(*GENERATOR), Optimal()
    base = generator(denoiser)
    heun = DiscriminatorHeun(steps, boosting)
    fields = {**vars(base), "sampler": heun}
    push = GradientPush(RealPotential(network, "logit"), strength, facts={"published": True})
    guided = pushed(DiscriminatorGenerator(**fields), push)
    return guided, denoiser, network


def test_eighteen_steps_cost_35_evaluations_and_18_of_the_discriminator() -> None:
    """35 + 18 = 53; within the published times, above sigma = 0.045, 15 of the 18 are made."""
    guided, denoiser, network = published(Strength(3.0))
    guided.sample(torch.arange(4))
    assert (denoiser.rows, network.rows) == (4 * 35, 4 * 18)
    low, high = sigma_of_time(0.01), sigma_of_time(1.0)
    assert (low, high) == (pytest.approx(0.0447, abs=1e-4), pytest.approx(152.2, abs=0.1))
    guided, denoiser, network = published(Strength(3.0, low, high))
    guided.sample(torch.arange(4))
    assert (denoiser.rows, network.rows) == (4 * 35, 4 * 15)


def test_the_sampler_is_the_published_one_derived_anew_in_vp_time() -> None:
    """x_vp = x / sqrt(1 + sigma^2), tau(sigma) in [0.01, 1], w = 2 to first order, 0 in the correction."""
    guided, _, _ = published(Strength(3.0, sigma_of_time(0.01), sigma_of_time(1.0)), steps=7)
    seeds = torch.arange(6)
    found = guided.sample(seeds).double()[:, 0]
    ramp = torch.arange(7).double() / 6
    levels = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    x = NoiseSource(seeds).normal((6, 1), "start").double()[:, 0] * 80
    m_d, v_d, m_g, v_g = DATA[0], DATA[1] ** 2, GENERATOR[0], GENERATOR[1] ** 2

    def slope(x: Tensor, s: float) -> Tensor:
        return (x - (m_g + v_g / (v_g + s**2) * (x - m_g))) / s

    for s, s_next in pairwise([*levels.tolist(), 0.0]):
        tau = (-0.1 + math.sqrt(0.1**2 + 2 * 19.9 * math.log(1 + s**2))) / 19.9
        first = slope(x, s)
        if 0.01 <= tau <= 1:
            mean_vp = math.exp(-0.25 * tau**2 * 19.9 - 0.05 * tau)  # = 1 / sqrt(1 + sigma^2)
            of_x_vp = (-(x - m_d) / (v_d + s**2) + (x - m_g) / (v_g + s**2)) / mean_vp
            first = first - 2 * s**2 * mean_vp * of_x_vp / s
        x_next = x + (s_next - s) * first
        if s_next > 0:
            x_next = x + (s_next - s) * (first + slope(x_next, s_next)) / 2
        x = x_next
    assert torch.allclose(found, x, rtol=1e-4, atol=1e-4)


def test_another_guidance_on_top_acts_in_both_evaluations() -> None:
    guided, denoiser, network = published(Strength(3.0))
    other = Optimal()
    both = pushed(guided, GradientPush(RealPotential(other, "logit"), Constant(2.0)))
    both.sample(torch.arange(4))
    assert (denoiser.rows, network.rows, other.rows) == (4 * 35, 4 * 18, 4 * 35)
    seeds = torch.arange(6)
    none = pushed(guided, GradientPush(RealPotential(other, "logit"), Constant(1.0)))
    assert torch.equal(none.sample(seeds), guided.sample(seeds))


class Silence:
    """No noise, as a noise source."""

    def normal(self, shape: Any, step: Any) -> Tensor:
        return torch.zeros(tuple(shape))


def boosted(boosting: bool) -> tuple[Tensor, list[list[float]]]:
    """Two rows that only a constant push of 1 moves; the second one has a negative log-ratio."""
    asked: list[list[float]] = []

    def guide(x: Tensor, sigma_N: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(sigma_N.tolist())
        return torch.ones_like(x), torch.tensor([1.0, -1.0])

    sampler = DiscriminatorHeun(18, boosting, guide)
    x = sampler.sample(lambda x, sigma_N: x, torch.zeros(2, 1), sampler.sigmas(NoiseSpec()), Silence())  # type: ignore[arg-type]
    return x[:, 0], asked


def test_boosting_doubles_and_churns_rows_with_a_negative_log_ratio_alone() -> None:
    plain, levels = boosted(False)
    found, asked = boosted(True)
    assert plain[0] == plain[1] == found[0]
    rises = [round(low / high, 6) for high, low in asked]
    assert [step for step, rise in enumerate(rises) if rise != 1] == [5, 10, 15]
    assert rises[5] == pytest.approx(1 + 4 / 18, abs=1e-5)
    # D(x) = x: a step moves x by -(next - level) times half the weight, by all of it in the last one
    ends = [high for high, _ in levels] + [0.0]
    expected = 0.0
    for step in range(18):
        level = ends[step] * (1 + 4 / 18 if step in (5, 10, 15) else 1)
        expected += (level - ends[step + 1]) * (2 if step % 2 == 0 else 1) * (0.5 if step < 17 else 1.0)
    assert float(found[1]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("generator", "dataset", "scale", "boosting"),
    [("fake-points", "fake-rings", 1.0, True), ("fake-latent", "fake-tiles", 2.0, False)],
)
def test_as_published_the_weight_is_two_or_one_and_boosting(
    generator: str, dataset: str, scale: float, boosting: bool, tmp_path: Path
) -> None:
    """Unconditional: w = 2; class-conditional: 1 + boosting. A whole run, saved and restored."""
    options = {"published": True, "train.steps": 100, "train.batch_size": 64, "bins": 3, "levels": "vp"}
    sets = [("run.samples", 20), ("run.blocks", 1), ("run.control", True)]
    resolved = resolve(
        generator=generator,
        objectives=["discriminator-guidance"],
        dataset=dataset,
        extractors=["fake-mean"],
        evaluators=["fake-gap"],
        sets=[*sets, *((f"objective.{key}", value) for key, value in options.items())],
    )
    metrics = genplug.run(resolved=resolved, out=tmp_path / "x").metrics
    improved = genplug.load(f"{tmp_path / 'x'}:improved")
    assert isinstance(improved, DiscriminatorGenerator)
    assert improved.sampler == DiscriminatorHeun(18, boosting)
    assert improved.guidance == 1 + scale
    gaps = {model: metrics[model]["gap-fake-mean"]["value"] for model in ("improved", "control")}
    assert gaps["improved"] != gaps["control"]
    (record,) = (tmp_path / "x").glob("stages/shared/classifier-*/accuracy/accuracy.json")
    assert len(json.loads(record.read_text())["bands"]) == 3
    seeds = torch.arange(6)
    none = improved.with_guidance(1.0).sample(seeds, improved.conditions(seeds))
    plain = genplug.load(f"{tmp_path / 'x'}:base", **{"sampler": "heun", "sampler.steps": 18})
    other = plain.sample(seeds, plain.conditions(seeds))
    assert float((none.float() - other.float()).abs().max()) <= (1 if none.dtype == torch.uint8 else 1e-4)


def test_the_published_discriminator_sees_frozen_features_of_a_published_classifier(tmp_path: Path) -> None:
    """32 pixels: 4 x width channels on 8 x 8 cells; only what is put on them is trained."""
    torch.manual_seed(0)
    whole = EncoderUNetModel(
        **encoder_options(NetworkConfig(width=16, depth=4), 32), in_channels=3, out_channels=7
    )
    path = tmp_path / "adm.safetensors"
    save_weights(whole.state_dict(), path)
    options = NetworkConfig(kind="unet", width=16, depth=1, features=str(path), features_width=16)
    network = Blueprint(options, (3, 32, 32), 1).start(0, "cpu")
    trained = [name for name, _ in network.named_parameters()]
    assert trained
    assert all(name.startswith("network.head.") for name in trained)
    x, sigma_N = torch.randn(2, 3, 32, 32), torch.tensor([0.1, 2.0])
    value_N, grad = gradient(RealPotential(network, "logit"), x, sigma_N, None)
    assert value_N.shape == (2,)
    assert grad.shape == x.shape
    seen: list[Tensor] = []
    whole.middle_block.register_forward_hook(lambda module, args, output: seen.append(output))
    network.network.head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    NoisyClassifier(whole, network.noise, fractional=True)(x, sigma_N)
    network(x, sigma_N)
    assert seen[0].shape == (2, 64, 8, 8)
    assert torch.allclose(seen[0], seen[1], atol=1e-6)
