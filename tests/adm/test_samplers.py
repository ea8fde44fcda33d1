"""Ancestral and DDIM steps in sigma space are the published ones, with the same noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from genplug.errors import ConfigError
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug_adm.config import AncestralConfig, DdimConfig
from genplug_adm.diffusion import Diffusion
from genplug_adm.sampler import AncestralSampler, DdimSampler
from genplug_adm.schedule import DiscreteNoise, sigmas_of
from genplug_samplers.edm import euler

FIXED = ("fixed-small", "fixed-large")


class Published:
    """The golden steps of one respaced process, each row at its own timestep."""

    def __init__(self, folder: Path, spacing: str) -> None:
        with safe_open(folder / "adm_diffusion_a.safetensors", "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            config = json.loads(file.metadata()["meta"])["config"]
        self.spacing = spacing
        self.process = Diffusion.of(config["main"], config["steps"], spacing)
        self.t = self.tensors["in/t"]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[f"out/{self.spacing}/{key}"]

    def step(self, sampler: Any, guided: bool = False) -> Tensor:
        """Return x_{t-1} of each row by a sampler's one step from sigma_t to sigma_{t-1}."""
        return torch.cat([self._row(sampler, row, guided) for row in range(len(self.t))])

    def _row(self, sampler: Any, row: int, guided: bool) -> Tensor:
        t, process = self.t[row : row + 1], self.process
        x_t, eps, noise, gradient = (
            self.tensors[f"in/{key}"][row : row + 1] for key in ("x_t", "model_output", "noise", "gradient")
        )
        abar, before = (float(a[t]) for a in (process.alphas_cumprod, process.alphas_cumprod_prev))
        sigmas = torch.tensor([sigmas_of(abar), sigmas_of(before)], dtype=torch.float64)

        def denoise(x: Tensor, sigma_N: Tensor) -> Tensor:
            D = (x - sigma_N[0] * eps[:, :3]).clamp(-1, 1)
            # The gradient is with respect to x_t = sqrt(abar) x.
            return D + sigma_N[0] ** 2 * abar**0.5 * gradient if guided else D

        x: Tensor = sampler.sample(denoise, x_t.double() / abar**0.5, sigmas, Given(noise))
        return x * before**0.5


class Given:
    """The file's noise as that of every step."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def normal(self, shape: tuple[int, ...], step: int) -> Tensor:
        return self.noise


def assert_equal_steps(got: Tensor, expected: Tensor) -> None:
    assert float(((got - expected).abs() / (1 + expected.abs())).max()) <= 2e-5


@pytest.mark.parametrize("spacing", ["25", "ddim25"])
def test_one_step_is_the_published_one(golden: Path, spacing: str) -> None:
    published = Published(golden, spacing)
    for variance in FIXED:
        sampler = AncestralSampler(AncestralConfig(variance=variance))
        expected = published[f"{variance.replace('-', '')}/p_sample"]
        assert_equal_steps(published.step(sampler), expected)
    for eta in (0.0, 0.7):
        sampler = DdimSampler(DdimConfig(eta=eta))
        assert_equal_steps(published.step(sampler), published[f"learned/ddim_sample_eta{eta}"])


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_guidance_by_sigma_squared_times_the_gradient_is_the_published_one(golden: Path, eta: float) -> None:
    """D + sigma^2 grad ln p is guided-diffusion's `condition_score`."""
    published = Published(golden, "25")
    got = published.step(DdimSampler(DdimConfig(eta=eta)), guided=True)
    assert_equal_steps(got, published[f"learned/ddim_sample_eta{eta}_guided"])


def eps(x_t: Tensor, t: Tensor) -> Tensor:
    """Return a smooth stand-in for a network."""
    return torch.tanh(x_t.flip(-1) + t.reshape(-1, 1, 1, 1) / 30) * 0.9


def in_sigma_space(noise: DiscreteNoise) -> Callable[[Tensor, Tensor], Tensor]:
    def denoise(x: Tensor, sigma_N: Tensor) -> Tensor:
        sigma = sigma_N.reshape(-1, 1, 1, 1)
        return (x - sigma * eps(x / (1 + sigma**2).sqrt(), noise.timestep(sigma_N))).clamp(-1, 1)

    return denoise


@pytest.mark.parametrize("variance", FIXED)
def test_a_whole_run_of_ancestral_steps_equals_the_discrete_process(variance: str) -> None:
    noise, process = DiscreteNoise.of("cosine", 100), Diffusion.of("cosine", 100, "12")
    draws = NoiseSource(torch.arange(3))
    sampler = AncestralSampler(AncestralConfig(steps=12, variance=variance))
    sigmas = sampler.sigmas(noise)
    start = draws.normal((3, 1, 4, 4), "start")
    got = sampler.sample(in_sigma_space(noise), start * sigmas[0], sigmas, draws)
    x = start * (sigmas[0] ** 2 / (1 + sigmas[0] ** 2)).sqrt()
    for step, index in enumerate(reversed(range(12))):
        t = torch.full((3,), index)
        moments = process.moments(eps(x, process.model_timesteps(t)), x, t, variance)
        x = process.ancestral_step(moments, t, draws.normal(x.shape, step))
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-4)


def test_ddim_is_euler_at_one_end_and_ancestral_at_the_other() -> None:
    noise, draws = DiscreteNoise.of("linear", 100), NoiseSource(torch.arange(3))
    denoise, ddpm = in_sigma_space(noise), AncestralSampler(AncestralConfig(steps=20))
    sigmas = ddpm.sigmas(noise)
    x_T = draws.normal((3, 1, 4, 4), "start") * sigmas[0]
    flow = DdimSampler(DdimConfig(steps=20)).sample(denoise, x_T, sigmas, draws)
    torch.testing.assert_close(flow, euler(denoise, x_T, sigmas), rtol=1e-4, atol=1e-4)
    same = DdimSampler(DdimConfig(steps=20, eta=1)).sample(denoise, x_T, sigmas, draws)
    torch.testing.assert_close(same, ddpm.sample(denoise, x_T, sigmas, draws), rtol=1e-4, atol=1e-4)


def test_a_network_of_timesteps_is_asked_at_its_own_levels() -> None:
    noise = DiscreteNoise.of("cosine", 1000)
    sigmas = DdimSampler(DdimConfig(steps=4, spacing="ddim")).sigmas(noise)
    assert noise.timestep(sigmas[:-1]).tolist() == [750, 500, 250, 0]
    assert torch.equal(sigmas[:-1], noise.round_sigma(sigmas[:-1]))
    with pytest.raises(ConfigError, match="cannot keep 250 of 100 timesteps; keep 1 to 100"):
        AncestralSampler(AncestralConfig()).sigmas(DiscreteNoise.of("linear", 100))


def test_other_networks_get_levels_of_a_schedule_within_their_range() -> None:
    sampler = AncestralSampler(AncestralConfig(steps=40))
    sigmas = sampler.sigmas(NoiseSpec(sigma_min=0.1, sigma_max=5.0))
    assert len(sigmas) == 41
    assert float(sigmas[0]) == pytest.approx(5)
    assert float(sigmas[-2]) == pytest.approx(0.1)
    known = DiscreteNoise.of("linear", 1000)
    assert float(known.fractional_timestep(sigmas[:-1]).diff().std()) < 1e-2  # even in timesteps
    with pytest.raises(ConfigError, match="use another sampler"):
        sampler.sigmas(NoiseSpec(sigma_min=500, sigma_max=900))


def test_clipping_keeps_samples_of_a_wild_denoiser_in_range() -> None:
    noise, draws = DiscreteNoise.of("linear", 100), NoiseSource(torch.arange(3))
    for sampler in (
        AncestralSampler(AncestralConfig(steps=5, clip=True)),
        DdimSampler(DdimConfig(steps=5, clip=True)),
    ):
        sigmas = sampler.sigmas(noise)
        x_T = draws.normal((3, 2), "start") * sigmas[0]
        x = sampler.sample(lambda x, sigma_N: 9 * x, x_T, sigmas, draws)
        assert float(x.abs().max()) == 1
