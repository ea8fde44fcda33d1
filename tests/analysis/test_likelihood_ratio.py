"""Log-ratios: nothing between equal models, the exact numbers of likelihoods, and where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import genplug
from genplug.condition import Condition
from genplug.loading import build
from genplug.protocols import EvalInputs
from genplug.runtime import Run
from genplug_analysis.config import LikelihoodRatioConfig
from genplug_analysis.likelihood_ratio import LikelihoodRatio

LINE = {"name": "gaussians-1d", "separation": 0.5, "train": 200, "held_out": 400}
EXACT = {
    "name": "toy-exact",
    "data": {"name": "gaussians-1d", "separation": 0.5},
    "sampler": {"name": "heun", "steps": 8},
}


def evaluated(run: Run, theta: Any, ref: Any, **options: Any) -> dict[str, Any]:
    held_out = run.dataset("held-out")
    inputs = EvalInputs(held_out, held_out=held_out, generator=theta, base=ref)
    return LikelihoodRatio(LikelihoodRatioConfig(**options)).evaluate(inputs, run)


def test_equal_models_have_no_ratio_and_guess(run_of: Callable[..., Run]) -> None:
    run = run_of(LINE, EXACT)
    assert run.resolved is not None
    one = build(run, run.resolved.generator)
    values = {name: score.value for name, score in evaluated(run, one, one).items()}
    assert values == {"ratio-real": 0, "ratio-generated": 0, "ratio-spread": 0, "ratio-accuracy": 0.5}


@dataclass(frozen=True)
class Off:
    """A denoiser whose estimates are off by a constant."""

    inner: Any
    by: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        clean: Tensor = self.inner.denoise(x, sigma_N, cond) + self.by
        return clean


def test_the_better_model_is_known_by_its_ratio(run_of: Callable[..., Run]) -> None:
    run = run_of(LINE, EXACT)
    assert run.resolved is not None
    exact: Any = build(run, run.resolved.generator)
    worse = exact.replace(denoiser=Off(exact.denoiser, 0.2))
    scores = evaluated(run, exact, worse, draws=8)
    assert scores["ratio-real"].value > 0
    assert scores["ratio-accuracy"].value > 0.6
    assert scores["ratio-real"].low <= scores["ratio-real"].value <= scores["ratio-real"].high
    (plot,) = scores["ratio-real"].plots.values()
    assert "held-out real" in plot


class Gaussian:
    """A one-dimensional likelihood N(mean, 1)."""

    provides = frozenset({"likelihood"})
    x_shape = (1,)

    def __init__(self, mean: float) -> None:
        self.mean = mean

    def encode(self, samples: Tensor, noise: Any = None) -> Tensor:
        return samples

    def conditions(self, seeds_N: Tensor, policy: str = "balanced") -> None:
        return None

    def sample_x(self, seeds_N: Tensor, cond: Any = None) -> Tensor:
        return torch.linspace(-2, 2, len(seeds_N))[:, None] + self.mean

    def log_prob(self, x: Tensor, cond: Any) -> Tensor:
        return -0.5 * (x - self.mean).square().sum(1)


def test_likelihoods_are_compared_exactly(run_of: Callable[..., Run]) -> None:
    run = run_of(LINE, EXACT)
    scores = evaluated(run, Gaussian(0.0), Gaussian(1.0))
    real_N = run.dataset("held-out").read(range(400))[:, 0]
    assert scores["ratio-real"].value == pytest.approx(float((0.5 - real_N).mean()), abs=1e-5)
    assert scores["ratio-generated"].value == pytest.approx(-0.5, abs=1e-5)


def test_where_there_is_no_ratio_one_line_says_so(run_of: Callable[..., Run]) -> None:
    run = run_of(LINE, EXACT)
    assert run.resolved is not None
    exact: Any = build(run, run.resolved.generator)

    class Box:
        provides = frozenset[str]()

    class Guided:
        provides = frozenset({"denoiser", "guided"})

    other = replace(exact, denoiser=Off(exact.denoiser, 0.0))
    object.__setattr__(other.denoiser, "x_shape", (2,))
    for theta, words in ((Box(), "wrapped"), (Guided(), "is guided"), (Gaussian(0), "the same x")):
        assert evaluated(run, theta, exact) == {}
        assert words in run.log.warnings[-1]  # type: ignore[attr-defined]


def test_the_other_evaluators_of_a_run_go_on(tmp_path: Any) -> None:
    result = genplug.run(
        "fake-points",
        ["fake-shift"],
        out=tmp_path / "run",
        config={"run": {"samples": 64, "blocks": 1, "evaluators": ["likelihood-ratio", "wasserstein"]}},
        dataset__name="fake-rings",
    )
    assert "ratio-real" in result.metrics["base"]
    assert "ratio-real" not in result.metrics["improved"]
    assert "wasserstein" in result.metrics["improved"]
