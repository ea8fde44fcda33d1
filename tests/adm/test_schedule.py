"""Discrete timesteps as noise levels, and which of them a shorter process keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from genplug.errors import ConfigError
from genplug.random import NoiseSource
from genplug_adm.diffusion import Diffusion
from genplug_adm.respacing import kept_timesteps
from genplug_adm.schedule import DiscreteNoise


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_levels_rise_and_are_those_of_the_process(schedule: str) -> None:
    noise, abar = DiscreteNoise.of(schedule, 1000), Diffusion.of(schedule, 1000).alphas_cumprod
    levels = noise.levels()
    assert bool((levels.diff() > 0).all())
    np.testing.assert_allclose(1 / (1 + levels.numpy() ** 2), abar, rtol=1e-10)
    assert (noise.sigma_min, noise.sigma_max) == (float(levels[0]), float(levels[-1]))


def test_every_level_has_its_own_timestep_and_is_left_alone_by_rounding() -> None:
    noise = DiscreteNoise.of("cosine", 200)
    levels = noise.levels().float()
    assert torch.equal(noise.timestep(levels), torch.arange(200))
    assert torch.equal(noise.round_sigma(levels), levels)


def test_a_level_in_between_goes_to_the_nearest_in_ln_sigma() -> None:
    noise = DiscreteNoise.of("linear", 1000)
    low, high = noise.levels()[500:502].tolist()
    asked = torch.tensor([low * (high / low) ** 0.49, low * (high / low) ** 0.51, 1e-6, 0.0, 1e6])
    assert noise.timestep(asked).tolist() == [500, 501, 0, 0, 999]
    exact = replace(noise, fractional=True)
    assert exact.timestep(asked).tolist() == pytest.approx([500.49, 500.51, 0, 0, 999], abs=1e-3)
    assert torch.equal(exact.round_sigma(asked), asked)


def test_training_draws_all_levels_equally_often_unless_told_otherwise() -> None:
    noise, draws = DiscreteNoise.of("linear", 50), NoiseSource(torch.arange(5000))
    counts = noise.timestep(noise.draw(draws)).bincount(minlength=50)
    assert float(counts.float().std()) < 1.5 * 100**0.5
    other = replace(noise, log_mean=-1.0, log_std=0.1).draw(draws)
    assert torch.equal(other, noise.round_sigma(other))
    assert abs(float(other.log().mean()) + 1) < 0.05


def test_spacings() -> None:
    assert kept_timesteps(10, "10") == list(range(10))
    assert kept_timesteps(1000, "4") == [0, 333, 666, 999]
    assert kept_timesteps(1000, "1") == [0]
    assert kept_timesteps(1000, "ddim4") == [0, 250, 500, 750]
    assert kept_timesteps(301, "2,1,3") == kept_timesteps(301, [2, 1, 3]) == [0, 100, 101, 201, 251, 300]


@pytest.mark.parametrize("spacing", ["11", "ddim7", "0", "2,9", "ddim", "a"])
def test_spacings_that_do_not_exist_are_refused(spacing: str) -> None:
    with pytest.raises(ConfigError):
        kept_timesteps(10, spacing)


def test_a_shorter_process_has_the_same_levels_where_it_stops() -> None:
    whole, short = Diffusion.of("cosine", 500), Diffusion.of("cosine", 500, "7", rescale_timesteps=True)
    np.testing.assert_allclose(short.alphas_cumprod, whole.alphas_cumprod[list(short.timesteps)], rtol=1e-9)
    assert short.model_timesteps(torch.tensor([0, 6])).tolist() == [0.0, 998.0]
