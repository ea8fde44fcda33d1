"""The generator `adm`: its denoiser, conditioning, training, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import genplug
from genplug.condition import Condition
from genplug.denoiser import DenoiserGenerator
from genplug.errors import ConfigError
from genplug.random import NoiseSource
from genplug_adm import register_generators
from genplug_adm.generator import AdmDenoiser

TINY = {**register_generators()[0].tiny, "schedule": "linear"}


def made(**options: Any) -> DenoiserGenerator:
    """Return a tiny generator whose network is not silent."""
    generator = genplug.load("adm", **TINY | options)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in generator.module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return generator


def rows(n: int = 4) -> tuple[Tensor, Condition]:
    x = NoiseSource(torch.arange(n)).normal((n, 1, 8, 8), "x") * 0.5
    return x.clamp(-1, 1), Condition(labels_N=torch.arange(n) % 4)


def test_it_subtracts_sigma_times_the_predicted_noise() -> None:
    generator = made(clip=False)
    noise, (x, cond) = generator.noise, rows()
    t = torch.tensor([0, 3, 60, 99])
    sigma_N = noise.at(t)
    sigma = sigma_N.reshape(-1, 1, 1, 1)
    output = generator.module(x / (1 + sigma**2).sqrt(), t, cond.labels_N)
    D = generator.denoise(x, sigma_N, cond)
    torch.testing.assert_close(D, x - sigma * output[:, :1], rtol=1e-4, atol=1e-5 * float(sigma.max()))
    clipped = made().denoise(x, sigma_N, cond)
    assert torch.equal(clipped, D.clamp(-1, 1))
    assert not torch.equal(clipped, D)


@pytest.mark.parametrize(("fractional", "asked"), [(False, 50.0), (True, 50.3)])
def test_between_timesteps_the_nearest_is_asked_or_a_fractional_one(fractional: bool, asked: float) -> None:
    generator, (x_t, cond) = made(clip=False, fractional=fractional), rows()
    low, high = generator.noise.levels()[50:52].float()
    sigma = low * (high / low) ** 0.3
    scale = (1 + sigma**2).sqrt()
    D = generator.denoise(x_t * scale, sigma.expand(4), cond)
    eps = generator.module(x_t, torch.full((4,), asked), cond.labels_N)[:, :1]
    torch.testing.assert_close((x_t * scale - D) / sigma, eps, rtol=1e-3, atol=1e-3)


def test_no_label_is_the_label_minus_one_and_training_may_say_that_it_filled_it() -> None:
    generator = made()
    x, cond = rows()
    sigma_N = torch.full((4,), 0.8)
    none = generator.denoise(x, sigma_N, cond.null())
    dropped = cond.dropped(torch.tensor([True, False, True, False]))
    torch.testing.assert_close(generator.denoise(x, sigma_N, dropped)[::2], none[::2])
    torch.testing.assert_close(
        generator.denoise(x, sigma_N, dropped)[1::2], generator.denoise(x, sigma_N, cond)[1::2]
    )
    assert "unconditional" not in generator.provides
    assert "unconditional" in generator.with_unconditional().provides
    assert "unconditional" in made(unconditional=True).provides


def test_the_same_network_can_be_made_for_features() -> None:
    generator = made().for_features(7, seed=3)
    assert {"feature-conditional", "null-label"} <= generator.provides
    assert "class-conditional" not in generator.provides
    x, _ = rows()
    features = Condition(features_ND=torch.randn(4, 7))
    loss_N = generator.training_loss(x, features, NoiseSource(torch.arange(4)))
    assert bool(loss_N.isfinite().all())
    assert torch.equal(
        made().for_features(7, seed=3).module.label_emb.weight, generator.module.label_emb.weight
    )


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_training_approaches_the_best_denoiser(learn_sigma: bool) -> None:
    """Of data that are one image, that image is the best estimate at every level."""
    generator = made(learn_sigma=learn_sigma, num_classes=0).clone()
    generator.module.requires_grad_(True)
    image = (torch.arange(64) % 9 / 8 - 0.5).reshape(1, 1, 8, 8).expand(8, 1, 8, 8)
    optimiser = torch.optim.Adam(generator.module.parameters(), lr=3e-3)
    errors = []
    for step in range(60):
        optimiser.zero_grad()
        draws = NoiseSource(torch.arange(8) + 8 * step)
        generator.training_loss(image, None, draws).mean().backward()
        optimiser.step()
        if step in (0, 59):
            sigma_N = torch.full((8,), 2.0)
            noisy = image + 2 * draws.normal(image.shape, "check")
            errors.append(float((generator.denoise(noisy, sigma_N, None) - image).detach().square().mean()))
    assert errors[1] < 0.5 * errors[0]


def test_any_sampler_asks_a_network_of_timesteps_at_its_own_levels() -> None:
    generator = made(sampler={"name": "heun", "steps": 6})
    asked: list[Tensor] = []

    class Watching(AdmDenoiser):
        def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
            asked.append(sigma_N)
            return super().denoise(x, sigma_N, cond)

    watching = Watching(**vars(generator.denoiser))
    generator.replace(denoiser=watching).sample(torch.arange(2), generator.conditions(torch.arange(2)))
    for sigma_N in asked:
        torch.testing.assert_close(generator.noise.round_sigma(sigma_N), sigma_N)


def test_rescaled_timesteps_run_to_a_thousand() -> None:
    generator = made(rescale_timesteps=True, clip=False)
    x, cond = rows()
    sigma_N = generator.noise.at(torch.full((4,), 60))
    plain = replace(generator.denoiser, process=made().denoiser.process)
    assert not torch.allclose(generator.denoise(x, sigma_N, cond), plain.denoise(x, sigma_N, cond), atol=1e-4)
    seen: list[Tensor] = []
    generator.module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    generator.denoise(x, sigma_N, cond)
    assert seen[0].tolist() == [600.0] * 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 9}, "9 does not halve 1 times"),
        ({"channels_per_head": 12}, "32 channels, which are no heads of 12"),
        ({"sampler": {"name": "ddpm", "steps": 101}}, "cannot keep 101 of 100 timesteps; keep 1 to 100"),
        ({"sampler": {"name": "ddim", "steps": 60, "spacing": "ddim"}}, "no whole stride keeps 60 of 100"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        made(**options)
    assert "\n" not in str(caught.value)
