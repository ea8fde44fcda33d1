"""Guidance along a gradient: exact where the classifier is, the same in every mode, and where it acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import genplug
from genplug.condition import Condition
from genplug.guided import pushed
from genplug.pushes import Constant
from genplug.resolving import resolve
from genplug_adm.diffusion import Diffusion, Moments
from genplug_guidance.classifier import ClassPotential, ExactPosterior, RealPotential
from genplug_guidance.classifier_networks import make_network
from genplug_guidance.gradient import GradientPush, InBands, Unconditioned, gradient, scrambled
from genplug_guidance.gradient_config import NetworkConfig
from genplug_guidance.strength import Strength
from genplug_toy.config import Gaussians1dConfig

SIGMAS = (0.01, 0.1, 0.5, 3.0, 80.0)


def exact(separation: float) -> tuple[Any, Any]:
    """The exact denoiser of two Gaussians on a line, and their data."""
    data = Gaussians1dConfig(separation=separation, train=8, held_out=8).build(None)  # type: ignore[arg-type]
    options = {"data": "gaussians-1d", "data.separation": separation}
    return genplug.load("toy-exact", **options), data


def grid(sigma: float) -> tuple[Tensor, Tensor, Condition]:
    """Points of both classes at a noise level, each asked for both labels."""
    x = torch.linspace(-2, 2, 21).repeat(2)[:, None] * (1 + sigma)
    return x, torch.full((42,), sigma), Condition(labels_N=torch.arange(2).repeat_interleave(21))


@pytest.mark.parametrize("m", [1.0, 0.5, 0.1])
def test_the_exact_classifier_makes_the_unconditional_model_the_conditional_one(m: float) -> None:
    """Bayes: D_u + 1 sigma^2 grad ln p(c | x) = D_c, at every level (methods 3.2, critical remark)."""
    base, data = exact(m)
    guided = pushed(
        base.replace(denoiser=Unconditioned(base.denoiser)),
        GradientPush(ExactPosterior(data.log_density), Constant(2.0)),
    )
    for sigma in SIGMAS:
        x, sigma_N, cond = grid(sigma)
        expected = base.denoise(x, sigma_N, cond)
        scale = max(1.0, float(x.abs().max()))
        assert torch.allclose(guided.denoise(x, sigma_N, cond), expected, rtol=1e-5, atol=2e-6 * scale)
    seeds = torch.arange(40)
    samples, wanted = (g.sample(seeds, base.conditions(seeds)) for g in (guided, base))
    assert float((samples - wanted).abs().max()) < 2e-5


def test_a_whole_run_of_the_exact_classifier_equals_the_conditional_model(tmp_path: Path) -> None:
    resolved = resolve(
        generator="toy-exact",
        objectives=["classifier-guidance"],
        dataset="gaussians-1d",
        extractors=["fake-mean"],
        evaluators=["fake-gap"],
        sets=[
            ("generator.data", "gaussians-1d"),
            ("objective.classifier", "exact"),
            ("run.samples", 40),
            ("run.blocks", 1),
            ("dataset.train", 20),
            ("dataset.held_out", 20),
        ],
    )
    genplug.run(resolved=resolved, out=tmp_path / "x")
    base, improved = (genplug.load(f"{tmp_path / 'x'}:{role}") for role in ("base", "improved"))
    seeds = torch.arange(30)
    samples = [g.sample(seeds, base.conditions(seeds)) for g in (base, improved)]
    assert float((samples[0] - samples[1]).abs().max()) < 2e-5
    assert not list((tmp_path / "x").rglob("classifier.safetensors"))


def test_the_form_in_sigma_is_guided_diffusions_condition_score() -> None:
    """eps - sqrt(1 - abar) grad_{x_t} ln p is D + sigma^2 grad_x ln p, since x = x_t / sqrt(abar)."""
    torch.manual_seed(0)
    diffusion = Diffusion.of("linear", 1000)
    t, x_t, x0 = torch.tensor([3, 400, 900]), torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    w = torch.randn(1, 1, 2, 2).double()
    abar = torch.from_numpy(np.asarray(diffusion.alphas_cumprod))[t].reshape(3, 1, 1, 1)

    def log_p(x: Tensor) -> Tensor:  # any function of x_t
        return (w * x.double()).sin().flatten(1).sum(1)

    leaf = x_t.double().requires_grad_(True)
    (at_x_t,) = torch.autograd.grad(log_p(leaf).sum(), leaf)
    x0, x_t = x0.double(), x_t.double()
    moments = Moments(mean=x0, variance=x0, log_variance=x0, x0=x0)
    theirs = diffusion.guided_score(moments, x_t, t, at_x_t).x0
    sigma_N = ((1 - abar) / abar).sqrt().flatten()
    leaf = (x_t / abar.sqrt()).requires_grad_(True)
    (at_x,) = torch.autograd.grad(log_p(leaf * abar.sqrt()).sum(), leaf)
    ours = x0 + sigma_N.square().reshape(-1, 1, 1, 1) * at_x
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.fixture
def trained() -> ClassPotential:
    return ClassPotential(make_network(NetworkConfig(kind="mlp", width=16), (2,), 3, seed=1))


def test_a_gradient_is_the_same_under_no_grad_and_in_inference_mode(trained: ClassPotential) -> None:
    x, sigma_N = torch.randn(5, 2), torch.linspace(0.1, 2, 5)
    cond = Condition(labels_N=torch.arange(5) % 3)
    value_N, grad = gradient(trained, x, sigma_N, cond)
    assert float(grad.abs().min()) > 0
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            inside = Condition(labels_N=torch.arange(5) % 3)
            again = gradient(trained, x * 1, sigma_N * 1, inside)
        assert torch.equal(again[0], value_N)
        assert torch.equal(again[1], grad)
    assert all(p.grad is None for p in trained.module.parameters())


def test_rows_without_a_label_are_not_guided_and_soft_labels_are(trained: ClassPotential) -> None:
    x, sigma_N = torch.randn(3, 2), torch.ones(3)
    labels = gradient(trained, x, sigma_N, Condition(labels_N=torch.tensor([0, -1, 2])))[1]
    assert bool((labels[1] == 0).all())
    assert bool((labels[[0, 2]] != 0).all())
    for nothing in (None, Condition(count=3)):
        assert bool((gradient(trained, x, sigma_N, nothing)[1] == 0).all())
    soft = gradient(trained, x, sigma_N, Condition(weights_NK=torch.eye(3)[[0, 1, 2]]))[1]
    assert torch.allclose(soft[[0, 2]], labels[[0, 2]], atol=1e-7)


def test_the_two_targets_are_ln_d_and_its_logit() -> None:
    """grad ln d = (1 - d) grad logit; beyond d = 1e-5 from 0 and 1 the logit's gradient is taken as 0."""
    network = make_network(NetworkConfig(kind="mlp", width=16), (2,), 1, seed=1)
    x, sigma_N = torch.randn(6, 2), torch.full((6,), 0.3)
    logit_N, of_logit = gradient(RealPotential(network, "logit"), x, sigma_N, None)
    ln_d_N, of_log = gradient(RealPotential(network, "log_prob"), x, sigma_N, None)
    assert torch.allclose(ln_d_N, logit_N.sigmoid().log(), atol=1e-6)
    assert torch.allclose(of_log, (1 - logit_N.sigmoid())[:, None] * of_logit, atol=1e-6)
    with torch.no_grad():
        network.net.out.bias += 30
    value_N, clipped = gradient(RealPotential(network, "logit"), x, sigma_N, None)
    assert bool((clipped == 0).all())
    assert torch.allclose(value_N, torch.full((6,), 11.5129), atol=1e-3)


def test_guidance_of_scale_one_is_none_and_s_is_what_exceeds_it(trained: ClassPotential) -> None:
    base = genplug.load("fake-points")
    x, sigma_N, cond = torch.randn(4, 2), torch.ones(4), Condition(labels_N=torch.tensor([0, 1, 0, 1]))
    guided = pushed(base, GradientPush(trained, Constant(1 + 2.5)))
    D, direction = base.denoise(x, sigma_N, cond), gradient(trained, x, sigma_N, cond)[1]
    assert torch.allclose(guided.denoise(x, sigma_N, cond), D + 2.5 * direction, atol=1e-6)
    assert torch.equal(guided.with_guidance(1.0).denoise(x, sigma_N, cond), D)
    twice = pushed(guided, GradientPush(trained, Constant(1 - 2.5)))
    assert torch.allclose(twice.denoise(x, sigma_N, cond), D, atol=1e-6)


def test_noise_bins_say_where_guidance_acts() -> None:
    strength = InBands(Strength(3.0), (0.01, 0.1, 1.0, 10.0), (True, False, True))
    sigma_N = torch.tensor([0.005, 0.01, 0.05, 0.5, 2.0, 10.0, 11.0])
    assert strength.excess(sigma_N).tolist() == [0, 2, 2, 0, 2, 2, 0]
    assert strength.with_scale(1.5).excess(sigma_N).tolist() == [0, 0.5, 0.5, 0, 0.5, 0.5, 0]


def test_the_controls_direction_is_as_long_and_no_nearer_to_the_gradient_than_chance() -> None:
    grad, sigma_N = torch.randn(200, 3, 8, 8), torch.tensor([0.1, 3.0]).repeat(100)
    other = scrambled(grad, sigma_N)
    assert torch.allclose(other.flatten(1).norm(dim=1), grad.flatten(1).norm(dim=1))
    cosine_N = torch.cosine_similarity(grad.flatten(1), other.flatten(1))
    assert float(cosine_N.abs().mean()) < 0.1
    assert torch.equal(scrambled(grad[:1], sigma_N[:1]), other[:1])
    line = torch.ones(1000, 1)  # on a line only the sign is left: it is as often the wrong one
    assert float(scrambled(line, torch.logspace(-2, 2, 1000)).mean().abs()) < 0.1
