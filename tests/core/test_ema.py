"""Weight averages against golden data and closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from genplug import ema

GOLDEN = Path(__file__).parents[1] / "golden" / "edm2_phema_a.safetensors"

with safe_open(GOLDEN, "pt") as file:
    TENSORS = load_file(GOLDEN)
    CONFIG = json.loads(file.metadata()["meta"])["config"]


class Weights(nn.Module):
    """A parameter vector and a counter buffer."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def assert_golden(actual: np.ndarray, name: str, **tolerance: float) -> None:
    np.testing.assert_allclose(actual, TENSORS[f"out64/{name}"].numpy(), **(tolerance or {"rtol": 1e-9}))


def test_profile_maths_equals_the_published_one() -> None:
    stds = np.array(CONFIG["std"])
    assert_golden(ema.std_to_exp(stds), "exp")
    assert_golden(ema.exp_to_std(ema.std_to_exp(stds)), "std_roundtrip")
    beta = ema.power_function_beta(stds[:, None], np.array(CONFIG["t_next"]), np.array(CONFIG["t_delta"]))
    assert_golden(beta, "beta")
    response = CONFIG["response"]
    assert_golden(ema.power_function_response(response["ofs"], response["std"], response["len"]), "response")


def test_posthoc_coefficients_equal_the_published_ones() -> None:
    p = {k: np.array(v, dtype=np.float64) for k, v in CONFIG["posthoc"].items()}
    coefficients = ema.solve_posthoc_coefficients(p["in_ofs"], p["in_std"], p["out_ofs"], p["out_std"])
    assert_golden(coefficients, "posthoc_coefs", atol=1e-9, rtol=0)
    columns = [np.reshape(p[k], (-1, 1)) for k in ("in_ofs", "in_std")]
    assert_golden(ema.power_function_correlation(*columns, p["in_ofs"], p["in_std"]), "correlation")


def test_correlation_of_a_profile_with_itself_is_its_squared_norm() -> None:
    gamma = ema.std_to_exp(0.1)
    t = np.linspace(0, 7, 200_001)
    density = (gamma + 1) / 7 * (t / 7) ** gamma
    np.testing.assert_allclose(
        ema.power_function_correlation(7, 0.1, 7, 0.1), np.trapezoid(density**2, t), rtol=1e-6
    )


def test_tracked_average_equals_the_published_one() -> None:
    theta, batch = TENSORS["in/theta"], CONFIG["track_batch"]
    module = Weights(theta[0])
    tracker = ema.PowerFunctionEMA(module, CONFIG["track_stds"])
    for i, value in enumerate(theta, start=1):
        module.theta.data = value.clone()
        tracker.update(module, i * batch, batch)
    tracked = torch.stack([average.theta for average in tracker.averages().values()])
    torch.testing.assert_close(tracked, TENSORS["out/ema_tracked"], rtol=0, atol=1e-5)
    assert list(tracker.averages()) == ["0.050", "0.100"]


def track(tracker: ema._Averages, module: Weights, steps: range, batch: int = 10) -> None:
    for i in steps:
        with torch.no_grad():
            module.theta.fill_(float(i))
        module.count += 1
        tracker.update(module, i * batch, batch)


def test_half_life_halves_an_old_weight() -> None:
    module = Weights(torch.ones(1))
    tracker = ema.HalfLifeEMA(module, half_life=50)
    module.theta.data.zero_()
    for i in range(1, 6):
        tracker.update(module, i * 10, 10)
    torch.testing.assert_close(tracker.averages()["ema"].theta.detach(), torch.tensor([0.5]))


def test_ramp_up_shortens_the_half_life_early() -> None:
    module = Weights(torch.ones(1))
    tracker = ema.HalfLifeEMA(module, half_life=1000, rampup_ratio=0.1)
    module.theta.data.zero_()
    tracker.update(module, 100, 10)  # half-life 10 images
    torch.testing.assert_close(tracker.averages()["ema"].theta.detach(), torch.tensor([0.5]))


@pytest.mark.parametrize("make", [ema.PowerFunctionEMA, lambda m: ema.HalfLifeEMA(m, 30, 0.1)])
def test_average_resumes_exactly(make: type) -> None:
    whole, first, second = (make(Weights(torch.zeros(3))) for _ in range(3))
    track(whole, Weights(torch.zeros(3)), range(1, 21))
    track(first, Weights(torch.zeros(3)), range(1, 11))
    for name, average in first.averages().items():
        second.averages()[name].load_state_dict(average.state_dict())
    track(second, Weights(torch.zeros(3)), range(11, 21))
    for name, average in whole.averages().items():
        assert torch.equal(average.theta, second.averages()[name].theta)


def test_buffers_are_copied_and_averages_are_frozen() -> None:
    module = Weights(torch.zeros(2))
    tracker = ema.HalfLifeEMA(module, 100)
    track(tracker, module, range(1, 4))
    average = tracker.averages()["ema"]
    assert average.count == 3
    assert not average.training
    assert not average.theta.requires_grad


def test_reconstruction_from_snapshots_approaches_the_direct_average() -> None:
    """Post-hoc averages of a length that was never tracked agree with tracking it."""
    torch.manual_seed(0)
    theta = torch.randn(400, 3).cumsum(0) * 0.01
    module = Weights(theta[0])
    stored, direct = ema.PowerFunctionEMA(module), ema.PowerFunctionEMA(module, [0.075])
    snapshots, times, stds = [], [], []
    for i, value in enumerate(theta, start=1):
        module.theta.data = value.clone()
        stored.update(module, i, 1)
        direct.update(module, i, 1)
        if i % 20 == 0:
            for std, average in zip((0.05, 0.1), stored.averages().values(), strict=True):
                snapshots.append({k: v.clone() for k, v in average.state_dict().items()})
                times.append(i)
                stds.append(std)
    weights = ema.solve_posthoc_coefficients(times, stds, [400], [0.075])[:, 0]
    rebuilt = ema.reconstruct((s for s in snapshots), list(weights))
    expected = direct.averages()["0.075"].theta.detach()
    torch.testing.assert_close(rebuilt["theta"], expected, rtol=0, atol=2e-3)
    assert (theta[-1] - expected).abs().max() > 2e-2  # the tolerance tells averages apart
    assert rebuilt["count"] == 0


def test_reconstruction_takes_named_buffers_from_the_last_snapshot() -> None:
    first = {"w": torch.tensor([1.0]), "b": torch.tensor([5.0])}
    last = {"w": torch.tensor([3.0]), "b": torch.tensor([7.0])}
    rebuilt = ema.reconstruct([first, last], [0.25, 0.75], buffers=["b"])
    assert rebuilt["w"].item() == 2.5
    assert rebuilt["b"].item() == 7.0
    with pytest.raises(ValueError, match="argument"):
        ema.reconstruct([first, last], [1.0])
