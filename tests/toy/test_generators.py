"""The generators of points: conversions are exact, conditions mean what they say, training learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genplug
from genplug import Condition, DenoiserGenerator, NoiseSource
from genplug.config import GeneratorConfig
from genplug.errors import DataError
from genplug.networks import shapes
from genplug.testing.workplace import make_run
from genplug_toy.config import ToyConfig, ToyExactConfig, ToyFlowConfig
from genplug_toy.networks import PointMlp, waves

TRAINABLE = [ToyConfig, ToyFlowConfig]
MEAN, VARIANCE = 0.3, 0.04


def build(config: GeneratorConfig) -> DenoiserGenerator:
    generator: DenoiserGenerator = config.build(make_run(None))
    return generator


def points(count: int, dims: int) -> Tensor:
    return NoiseSource(torch.arange(count), salt="points").normal((count, dims), "x")


def levels(count: int) -> Tensor:
    return torch.logspace(-2.5, 0.7, count)


class GaussianVelocity(nn.Module):
    """E[noise - clean | x_t] of clean ~ N(MEAN, VARIANCE): with x_t they are jointly Gaussian."""

    def forward(self, x_t: Tensor, t_N: Tensor, cond: Tensor | None) -> Tensor:
        t = t_N[:, None]
        covariance, variance = t - (1 - t) * VARIANCE, (1 - t) ** 2 * VARIANCE + t**2
        return -MEAN + covariance / variance * (x_t - (1 - t) * MEAN)


def test_an_exact_velocity_gives_the_exact_denoiser() -> None:
    flow = build(ToyFlowConfig(dims=1)).with_module(GaussianVelocity())
    x_ND, sigma_N = points(50, 1).double(), levels(50).double()
    gain_N1 = VARIANCE / (VARIANCE + sigma_N**2)[:, None]
    assert torch.allclose(flow.denoise(x_ND, sigma_N, None), MEAN + gain_N1 * (x_ND - MEAN), atol=1e-12)


@pytest.mark.parametrize("kind", TRAINABLE)
def test_the_loss_is_the_weighted_error_of_the_denoiser(kind: Any) -> None:
    """So objectives that weight by `noise.weight` weight as training did, also a flow's ||v - (n - x)||^2."""
    generator, x_ND, draws = build(kind()), points(64, 2), NoiseSource(torch.arange(64))
    sigma_N, n_ND = generator.noise.draw(draws), draws.normal((64, 2), "noise")
    error_ND = generator.denoise(x_ND + sigma_N[:, None] * n_ND, sigma_N, None) - x_ND
    expected_N = generator.noise.weight(sigma_N) * error_ND.square().sum(1)
    assert torch.allclose(generator.training_loss(x_ND, None, draws), expected_N, rtol=1e-2)


@pytest.mark.parametrize("kind", TRAINABLE)
def test_no_label_is_the_zero_vector_in_every_form(kind: Any) -> None:
    generator, x_ND, sigma_N = build(kind(num_classes=2)), points(6, 2), levels(6)
    labels_N = torch.tensor([0, 1, -1, -1, 0, 1])
    mixed_ND = generator.denoise(x_ND, sigma_N, Condition(labels_N=labels_N))
    null_ND = generator.denoise(x_ND, sigma_N, Condition(count=6))
    assert torch.equal(generator.denoise(x_ND, sigma_N, Condition(labels_N=labels_N).null()), null_ND)
    assert ((mixed_ND == null_ND).all(1) == (labels_N < 0)).all()
    weights_NK = torch.eye(2)[labels_N.clamp(min=0)] * (labels_N >= 0)[:, None]
    assert torch.equal(generator.denoise(x_ND, sigma_N, Condition(weights_NK=weights_NK)), mixed_ND)


def test_saying_that_the_branch_without_labels_is_trained_adds_the_capability() -> None:
    generator = build(ToyConfig(num_classes=2))
    assert "unconditional" not in generator.provides
    assert generator.with_unconditional().provides == ToyConfig(num_classes=2, unconditional=True).provides()


@pytest.mark.parametrize("kind", TRAINABLE)
def test_the_same_architecture_takes_features(kind: Any) -> None:
    """Their direction counts, not their length; none is the zero vector."""
    generator = build(kind(num_classes=2)).for_features(8, seed=5)
    assert {"feature-conditional", "null-label"} <= generator.provides
    assert not {"class-conditional", "unconditional"} & generator.provides
    x_ND, sigma_N, f_ND = points(6, 2), levels(6), points(6, 8)
    denoised = [
        generator.denoise(x_ND, sigma_N, Condition(features_ND=rows)) for rows in (f_ND, 3 * f_ND, 0 * f_ND)
    ]
    assert torch.allclose(denoised[0], denoised[1])
    assert torch.equal(denoised[2], generator.denoise(x_ND, sigma_N, Condition(count=6)))
    assert not torch.allclose(denoised[0], denoised[2])
    again, other = (build(kind(num_classes=2)).for_features(8, seed=seed) for seed in (5, 6))
    weights = [next(iter(g.state_dict().values())) for g in (generator, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_label_beyond_the_classes_is_no_null_label() -> None:
    with pytest.raises(RuntimeError, match="smaller than num_classes"):
        build(ToyConfig(num_classes=2)).denoise(
            points(1, 2), levels(1), Condition(labels_N=torch.tensor([2]))
        )


def test_the_small_network_of_the_ddo_experiment_has_2306_parameters() -> None:
    small = build(ToyConfig(width=32, depth=3, octaves=0, noise_octaves=0))
    assert sum(p.numel() for p in small.module.parameters()) == 2306


def test_waves_are_octaves() -> None:
    x_ND = points(5, 2)
    seen = waves(x_ND, 2)
    assert seen.shape == (5, 10)
    assert torch.allclose(seen[:, 6:8], torch.sin(2 * torch.pi * x_ND))
    assert PointMlp(2, 3, 8, 1, octaves=2, cond_width=4)(x_ND, levels(5)).shape == (5, 3)


@pytest.mark.parametrize("name", ["gaussians-1d", "fractal"])
def test_the_exact_denoiser_is_that_of_the_data_for_each_kind_of_condition(name: str) -> None:
    options = {"classes": "both"} if name == "fractal" else {}
    config = ToyExactConfig(data={"name": name, **options})
    generator, mixture = build(config), config.mixture().build(None).mixture()
    x_ND, sigma_N = points(8, mixture.dims), levels(8)
    labels_N = torch.tensor([0, 1, -1, 0, 1, -1, 1, 0])
    rows = [mixture if label < 0 else mixture.of_class(label) for label in labels_N.tolist()]
    expected_ND = torch.cat([m.denoise(x_ND[i : i + 1], sigma_N[i]) for i, m in enumerate(rows)])
    denoised_ND = generator.denoise(x_ND, sigma_N, Condition(labels_N=labels_N))
    assert torch.allclose(denoised_ND, expected_ND, atol=1e-6)
    half_ND = generator.denoise(x_ND, sigma_N, Condition(weights_NK=torch.full((8, 2), 0.5)))
    assert torch.allclose(half_ND, generator.denoise(x_ND, sigma_N, Condition(count=8)), atol=1e-6)


def test_exact_samples_are_those_of_the_data() -> None:
    """Mean and spread of a class, at the accuracy of 24 Heun steps."""
    generator = build(ToyExactConfig(data={"name": "gaussians-1d", "separation": 0.5}))
    seeds_N = torch.arange(2000)
    cond = generator.conditions(seeds_N)
    assert cond is not None
    x_N = generator.sample(seeds_N, cond)[:, 0]
    for label, mean in ((0, -0.5), (1, 0.5)):
        assert float(x_N[cond.labels_N == label].mean()) == pytest.approx(mean, abs=0.01)
        assert float(x_N[cond.labels_N == label].std()) == pytest.approx(0.05, rel=0.1)


def test_the_exact_denoiser_has_no_weights_also_where_networks_are_built_without_memory() -> None:
    assert shapes("toy-exact") == build(ToyExactConfig()).state_dict() == {}


def test_a_known_error_is_noise_on_the_samples() -> None:
    """Of deviation 0.12 on a Gaussian of deviation 0.05: 0.13 together."""
    generator = build(ToyExactConfig(data={"name": "gaussians-1d"}, noise=0.12))
    x_N = generator.sample(torch.arange(2000), Condition(labels_N=torch.ones(2000).long()))[:, 0]
    assert float(x_N.mean()) == pytest.approx(1, abs=0.01)
    assert float(x_N.std()) == pytest.approx(0.13, rel=0.05)


@pytest.mark.parametrize("name", ["toy", "toy-flow"])
def test_training_on_a_line_lowers_the_loss(name: str, tmp_path: Path) -> None:
    options = {
        "generator__dims": 1,
        "generator__num_classes": 2,
        "generator__width": 16,
        "dataset__train": 500,
        "dataset__held_out": 100,
        "run__samples": 20,
        "run__blocks": 1,
        "run__evaluators": ["frechet"],
        "objective__train__steps": 150,
        "objective__train__lr": 0.01,
    }
    genplug.run(name, ["pretrain"], dataset__name="gaussians-1d", out=tmp_path / "run", **options)
    lines = (tmp_path / "run/stages/1-pretrain/fit/curve.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])
    assert "<path" in (tmp_path / "run/figures/samples-improved.svg").read_text()


def test_points_of_other_dimensions_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'toy' makes samples of shape \(2,\); gaussians-1d:train holds \(1,\)"
    ):
        genplug.run("toy", ["pretrain"], dataset__name="gaussians-1d", out=tmp_path / "run")


def test_data_without_a_known_density_have_no_exact_denoiser() -> None:
    with pytest.raises(ValueError, match="density of 'digits' is not known; it is of fractal, gaussians-1d"):
        ToyExactConfig(data="digits")
