"""Classifier guidance with everything exact: Bayes' rule holds at every noise level, and what scales do.

Everything is written down here in float64, from the two Gaussians N(-m, s^2) and N(m, s^2) alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

import genplug
from genplug.readers import open_path
from genplug.samplesets import read_all
from genplug_analysis.diagnostics import bend, crossings, minimum_margin, spread_within
from genplug_samplers.edm import edm_sigmas, heun

S = 0.05
SEPARATIONS = (1.0, 0.5, 0.1)


def conditional_score(x_N: Tensor, sigma: Tensor, m: float, sign: Tensor) -> Tensor:
    """Return d/dx ln N(x; sign m, s^2 + sigma^2)."""
    return (sign * m - x_N) / (S**2 + sigma**2)


def unconditional_score(x_N: Tensor, sigma: Tensor, m: float) -> Tensor:
    """Return the score of the mean of both densities: mean m tanh(m x / v)."""
    v = S**2 + sigma**2
    return (m * torch.tanh(m * x_N / v) - x_N) / v


def classifier_gradient(x_N: Tensor, sigma: Tensor, m: float, sign: Tensor) -> Tensor:
    """Return d/dx ln p(c | x; sigma) of the posterior 1 / (1 + exp(-2 sign m x / v))."""
    v = S**2 + sigma**2
    return 2 * sign * m / v * torch.sigmoid(-2 * sign * m * x_N / v)


def sampled(m: float, scale: float, n: int = 4000, steps: int = 100) -> tuple[Tensor, Tensor]:
    """Return guided samples and the sign of their class, from evenly spread starts."""
    u = (torch.arange(n // 2, dtype=torch.float64) + 0.5) / (n // 2)
    normal = torch.tensor([NormalDist().inv_cdf(float(p)) for p in u], dtype=torch.float64)
    sign_N = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat_interleave(n // 2)

    def denoise(x_N: Tensor, sigma_N: Tensor) -> Tensor:
        gradient = classifier_gradient(x_N, sigma_N, m, sign_N)
        return x_N + sigma_N**2 * (unconditional_score(x_N, sigma_N, m) + scale * gradient)

    sigmas = edm_sigmas(steps, 0.002, 80.0, dtype=torch.float64)
    return heun(denoise, normal.repeat(2) * sigmas[0], sigmas, dtype=torch.float64), sign_N


@pytest.mark.parametrize("m", SEPARATIONS)
def test_the_decomposition_is_exact_at_every_noise_level(m: float) -> None:
    x_N = torch.linspace(-3, 3, 601, dtype=torch.float64)
    for sigma in torch.logspace(-2.7, 1.9, 24, dtype=torch.float64):
        for sign in (-1.0, 1.0):
            one = torch.full_like(x_N, sign)
            joined = unconditional_score(x_N, sigma, m) + classifier_gradient(x_N, sigma, m, one)
            exact = conditional_score(x_N, sigma, m, one)
            assert float((joined - exact).abs().max() / exact.abs().max()) < 1e-15 * 8


@pytest.mark.parametrize("m", SEPARATIONS)
def test_guided_samples_at_scale_one_are_the_conditional_ones(m: float) -> None:
    x_N, sign_N = sampled(m, 1.0, n=200, steps=400)
    sigmas = edm_sigmas(400, 0.002, 80.0, dtype=torch.float64)
    u = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    start = torch.tensor([NormalDist().inv_cdf(float(p)) for p in u], dtype=torch.float64).repeat(2) * 80

    def denoise(x: Tensor, sigma_N: Tensor) -> Tensor:
        return x + sigma_N**2 * conditional_score(x, sigma_N, m, sign_N)

    expected_N = heun(denoise, start, sigmas, dtype=torch.float64)
    assert float((x_N - expected_N).abs().max()) < 1e-14


@pytest.mark.parametrize("m", SEPARATIONS)
def test_margins_grow_and_spreads_fall_with_the_scale(m: float) -> None:
    found = [sampled(m, scale, n=1000) for scale in (1.0, 2.0, 5.0, 20.0)]
    margins = [float(x_N.abs().mean()) for x_N, _ in found]
    spreads = [spread_within(x_N, sign_N.long()) for x_N, sign_N in found]
    assert margins == sorted(margins)
    assert len(set(margins)) == 4
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize(
    ("scale", "margin", "spread", "wrong"),
    [(1.0, 0.099, 0.050, 0.0225), (2.0, 0.131, 0.036, 0), (5.0, 0.179, 0.027, 0), (20.0, 0.291, 0.021, 0)],
)
def test_the_numbers_of_nearby_classes(scale: float, margin: float, spread: float, wrong: float) -> None:
    """The expected values are of one random draw, 2 % below the limit of many: 0.1008 = E|N(0.1, 0.05)|."""
    x_N, sign_N = sampled(0.1, scale)
    assert float(x_N.abs().mean()) == pytest.approx(margin, rel=0.025)
    assert spread_within(x_N, sign_N.long()) == pytest.approx(spread, abs=1.5e-3)
    assert float((x_N * sign_N <= 0).double().mean()) == pytest.approx(wrong, abs=2e-3)


def test_diagnostics_of_a_trajectory_by_hand() -> None:
    sigmas_T = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    x_TN = torch.tensor([[4.0, 1.0], [2.0, 1.0], [3.0, -1.0], [1.0, 2.0], [0.0, 3.0]], dtype=torch.float64)
    odds_TN = x_TN - 1.5
    assert crossings(odds_TN).tolist() == [1, 1]
    # the four levels are even in ln sigma: second differences 3 and -3 of 4, 2, 3, 1; |x_T - x_0| = 4
    assert bend(x_TN, sigmas_T, 4).tolist() == pytest.approx([6 / 4, (2 + 5) / 2])
    # a line between two steps adds no turn, so that a finer grid sees the same ones
    assert bend(x_TN, sigmas_T, 7).tolist() == pytest.approx([3 / 4, 3.5 / 2])
    boundary = [torch.tensor([1.5], dtype=torch.float64)] * 5
    smallest = minimum_margin(x_TN, boundary, sigmas_T, spread=1.0)
    expected = [
        min(abs(x - 1.5) / math.sqrt(1 + s * s) for x, s in zip(row, sigmas_T.tolist(), strict=True))
        for row in x_TN.T.tolist()
    ]
    assert smallest.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("m", SEPARATIONS)
def test_the_exact_classifier_on_the_exact_branch_is_conditional_sampling(m: float, tmp_path: Path) -> None:
    """The same through the program: float64 in the sampler, float32 at the denoiser."""
    line = {"name": "gaussians-1d", "separation": m}
    config = {
        "run": {"samples": 64, "blocks": 1, "extractors": [], "evaluators": ["trajectories"]},
        "dataset": line,
        "generator": {"name": "toy-exact", "data": line, "sampler": {"name": "heun", "precision": "float64"}},
        "objective": [{"name": "classifier-guidance", "classifier": "exact", "scale": 1.0}],
    }
    result = genplug.run(config=config, out=tmp_path / "run")
    base, guided = (
        read_all(open_path(tmp_path / f"run/samples/{name}/block-0/batch-000000.npz"))
        for name in ("base", "improved")
    )
    assert float((base - guided).abs().max()) < 2e-6
    values = [result.metrics[name]["margin"]["value"] for name in ("base", "improved")]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
