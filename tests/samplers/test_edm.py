"""EDM samplers against golden data and against exact solutions for Gaussian data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from genplug_edm2.network import Precond
from genplug_samplers.edm import Churn, edm_sigmas, euler, heun

GOLDEN = Path(__file__).parents[1] / "golden" / "edm2_sampler_a.safetensors"


class Tape:
    """Given draws in the order of use; remembers the steps."""

    def __init__(self, draws: Tensor) -> None:
        self.draws, self.steps = draws, []

    def normal(self, shape: tuple[int, ...], step: int) -> Tensor:
        self.steps.append(step)
        return self.draws[len(self.steps) - 1].expand(shape)


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN, "pt") as file:
        return load_file(GOLDEN), json.loads(file.metadata()["meta"])


def published_net(golden: tuple[dict[str, Tensor], dict[str, Any]], name: str) -> Precond:
    tensors, meta = golden
    net = Precond(**meta["nets"][name]["kwargs"]).eval()
    prefix = f"weights/{meta['nets'][name]['prefix']}"
    net.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return net


@pytest.mark.parametrize("name", ["heun", "guided", "churn"])
def test_heun_equals_the_published_sampler(
    golden: tuple[dict[str, Tensor], dict[str, Any]], name: str
) -> None:
    tensors, meta = golden
    net, guide = published_net(golden, "net"), published_net(golden, "gnet")
    run, labels, seen = meta["runs"][name], tensors["in/labels"], []

    def denoise(x: Tensor, sigma_N: Tensor) -> Tensor:
        seen.append(sigma_N[0])
        D: Tensor = net(x, sigma_N, labels)
        return torch.lerp(guide(x, sigma_N, labels), D, run["guidance"]) if "guidance" in run else D

    sigmas = edm_sigmas(run["num_steps"])
    churn = Churn(*(run[k] for k in ("S_churn", "S_min", "S_max", "S_noise"))) if name == "churn" else Churn()
    tape = Tape(tensors["in/churn_noise"])
    x = heun(denoise, tensors["in/noise"] * sigmas[0], sigmas, tape, churn)
    assert (x - tensors[f"out/{name}"]).abs().max() <= 2e-4 * tensors[f"out/{name}"].std()
    torch.testing.assert_close(torch.stack(seen), tensors[f"out/sigma_calls_{name}"])
    assert tape.steps == (meta["churn_active_steps"] if name == "churn" else [])


def gaussian_denoiser(std: float) -> Any:
    """E[x | x + sigma n] for x normal with mean 0: the ODE scales x by sqrt(std^2 + sigma^2)."""
    return lambda x, sigma_N: x * (std**2 / (std**2 + sigma_N**2)).reshape(-1, *[1] * (x.ndim - 1))


def error(method: Any, steps: int, std: float = 0.5) -> float:
    x_T = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 80
    sigmas = edm_sigmas(steps, dtype=torch.float64)
    exact = x_T * std / math.sqrt(std**2 + 80**2)
    return float((method(gaussian_denoiser(std), x_T, sigmas, dtype=torch.float64) - exact).abs().max())


@pytest.mark.parametrize(("method", "order"), [(euler, 1), (heun, 2)])
def test_error_falls_with_the_order_of_the_method(method: Any, order: int) -> None:
    # sigma_min adds a constant error of about sigma_min^2 / 2, negligible here.
    ratios = [error(method, n) / error(method, 2 * n) for n in (16, 32)]
    assert all(0.75 * 2**order < ratio < 1.5 * 2**order for ratio in ratios), ratios


def test_heun_is_near_the_exact_solution() -> None:
    assert error(heun, 256) < 1e-3 * 0.5


@pytest.mark.parametrize(("method", "calls"), [(euler, 10), (heun, 19)])
def test_cost_in_denoiser_calls(method: Any, calls: int) -> None:
    seen = []
    method(lambda x, s: (seen.append(s), x * 0)[1], torch.ones(2, 3), edm_sigmas(10))
    assert len(seen) == calls
    assert all(s.shape == (2,) and s.dtype == torch.float32 for s in seen)


def test_sigmas_run_from_maximum_to_minimum_then_zero() -> None:
    sigmas = edm_sigmas(18, 0.01, 50, 5, dtype=torch.float64)
    assert sigmas.shape == (19,)
    torch.testing.assert_close(sigmas[[0, -2, -1]], torch.tensor([50, 0.01, 0], dtype=torch.float64))
    torch.testing.assert_close(sigmas[:-1].pow(0.2).diff(), sigmas[:-1].pow(0.2).diff()[:1].expand(17))
    torch.testing.assert_close(edm_sigmas(1), torch.tensor([80.0, 0.0]))


@pytest.mark.parametrize("amount", [0.0, 4.0])
def test_noise_is_drawn_on_active_steps_only(amount: float) -> None:
    sigmas, tape = edm_sigmas(8), Tape(torch.zeros(8, 2, 1))
    active = [i for i, s in enumerate(sigmas[:-1].tolist()) if 0.05 <= s <= 50 and amount > 0]
    heun(lambda x, s: x * 0, torch.ones(2, 1), sigmas, tape, Churn(amount, 0.05, 50))
    assert tape.steps == active


def test_churn_keeps_the_spread_of_gaussian_data() -> None:
    torch.manual_seed(0)
    sigmas = edm_sigmas(64, dtype=torch.float64)
    x_T = torch.randn(4000, 1, dtype=torch.float64) * sigmas[0]
    churn = Churn(amount=20)
    x = heun(gaussian_denoiser(0.5), x_T, sigmas, Tape(torch.randn(64, 4000, 1)), churn, torch.float64)
    assert abs(float(x.std()) - 0.5) < 0.02


def test_churn_without_a_noise_source_is_refused() -> None:
    with pytest.raises(ValueError, match="noise source"):
        heun(lambda x, s: x, torch.ones(1, 1), edm_sigmas(4), churn=Churn(1.0))


def test_double_precision_state_calls_a_single_precision_network() -> None:
    def denoise(x: Tensor, sigma_N: Tensor) -> Tensor:
        assert x.dtype == sigma_N.dtype == torch.float32
        return x * 0

    assert heun(denoise, torch.ones(1, 1), edm_sigmas(4), dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize("method", [euler, heun])
def test_batches_do_not_couple(method: Any) -> None:
    x_T, sigmas = torch.randn(4, 3) * 80, edm_sigmas(5)
    whole = method(gaussian_denoiser(0.5), x_T, sigmas)
    parts = torch.cat([method(gaussian_denoiser(0.5), x, sigmas) for x in x_T.split(1)])
    torch.testing.assert_close(whole, parts)
