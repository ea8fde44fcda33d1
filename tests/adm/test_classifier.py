"""The noisy classifier, asked at noise levels, is the published one at its timesteps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from genplug_adm.classifier import CLASSIFIERS, NoisyClassifier
from genplug_adm.schedule import DiscreteNoise
from genplug_adm.unet import EncoderUNetModel


def test_log_probability_and_gradient_are_the_published_ones(golden: Path) -> None:
    """x = x_t sqrt(1 + sigma^2), so that its gradient is the published one / sqrt(1 + sigma^2)."""
    with safe_open(golden / "adm_classifier_a.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        options = json.loads(file.metadata()["meta"])["nets"]["net"]["kwargs"]
    network = EncoderUNetModel(**options).eval()
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}
    network.load_state_dict(weights)
    noise = DiscreteNoise.of("cosine", 1000)
    classifier = NoisyClassifier(network, noise)
    sigma_N = noise.at(tensors["in/t"])
    scale = (1 + sigma_N**2).sqrt().reshape(-1, 1, 1, 1)
    x = (tensors["in/x"] * scale).requires_grad_()
    logits_NK = classifier(x, sigma_N)
    expected = tensors["out/logits"]
    assert float((logits_NK - expected).detach().abs().max()) <= 5e-5 * float(expected.std())
    log_prob_N = logits_NK.log_softmax(1).gather(1, tensors["in/y"][:, None])[:, 0]
    torch.testing.assert_close(log_prob_N, tensors["out/log_prob"], rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(log_prob_N.sum(), x)
    expected = tensors["out/grad_log_prob"]
    assert float((gradient * scale - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


class Told(nn.Module):
    """Answers with the timestep that it got."""

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return t.double()[:, None]


@pytest.mark.parametrize("fractional", [False, True])
def test_levels_between_timesteps(fractional: bool) -> None:
    noise = DiscreteNoise.of("linear", 1000)
    low, high = noise.levels()[40:42].tolist()
    between = torch.tensor([(low * high) ** 0.5 * 1.0001])
    answer = NoisyClassifier(Told(), noise, fractional)(torch.zeros(1, 2), between)
    assert float(answer) == pytest.approx(40.5 if fractional else 41, abs=0.02)


def test_published_sizes_can_be_changed_for_smaller_images() -> None:
    sizes = replace(CLASSIFIERS[64], image_size=16, width=64, channel_mult=(1, 2), depth=1, classes=3)
    classifier = NoisyClassifier(EncoderUNetModel(**sizes.network()), sizes.noise())
    assert classifier(torch.randn(2, 3, 16, 16), torch.tensor([0.1, 30.0])).shape == (2, 3)
