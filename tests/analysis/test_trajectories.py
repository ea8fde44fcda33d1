"""Recording what a sampler steps from, and the evaluator's numbers on exact denoisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from genplug.loading import build
from genplug.protocols import EvalInputs
from genplug.runtime import Run
from genplug.samplesets import ArraySet
from genplug_analysis.config import TrajectoriesConfig
from genplug_analysis.recording import course_of, steps
from genplug_analysis.trajectories import Trajectories
from genplug_samplers.edm import Churn, euler, heun

LINE = {"name": "gaussians-1d", "separation": 0.1, "train": 500, "held_out": 2000}
EXACT = {
    "name": "toy-exact",
    "data": {"name": "gaussians-1d", "separation": 0.1},
    "sampler": {"name": "heun", "steps": 48, "precision": "float64"},
}


@pytest.mark.parametrize("churn", [0.0, 8.0])
@pytest.mark.parametrize("solver", [heun, euler])
def test_only_states_that_a_step_begins_at_are_kept(solver: Any, churn: float) -> None:
    calls: list[tuple[float, torch.Tensor]] = []

    def denoise(x_N: torch.Tensor, sigma_N: torch.Tensor) -> torch.Tensor:
        calls.append((float(sigma_N[0]), x_N))
        return 0.5 * x_N

    class Ones:
        def normal(self, shape: tuple[int, ...], step: int) -> torch.Tensor:
            return torch.ones(shape)

    sigmas = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    solver(denoise, torch.ones(2), sigmas, Ones(), Churn(churn))
    kept = steps(calls)
    assert len(kept) == 4
    factor = 1 + min(churn / 4, 2**0.5 - 1)
    assert [level for level, _ in kept] == pytest.approx([factor * float(s) for s in sigmas[:-1]])


def test_a_course_ends_at_the_samples_and_begins_at_the_noise(run_of: Callable[..., Run]) -> None:
    run = run_of(LINE, EXACT)
    assert run.resolved is not None
    generator: Any = build(run, run.resolved.generator)
    seeds_N = torch.arange(7)
    course = course_of(generator, seeds_N, "balanced", 3)
    assert len(course.sigmas_T) == 49
    assert torch.allclose(
        course.sigmas_T[:-1].float(), generator.sampler.sigmas(generator.noise)[:-1].float()
    )
    expected = generator.sample_x(seeds_N, generator.conditions(seeds_N)).double()
    assert torch.equal(course.x_T[-1], expected)
    assert course.labels_N is not None
    assert course.labels_N.tolist() == [0, 1, 0, 1, 0, 1, 0]


def evaluated(run: Run, generator: Any, n: int = 2000) -> dict[str, Any]:
    samples = ArraySet(torch.zeros(n, 1), name="samples")
    inputs = EvalInputs(samples, held_out=run.dataset("held-out"), generator=generator, base=generator)
    return Trajectories(TrajectoriesConfig()).evaluate(inputs, run)


def test_conditional_sampling_has_the_numbers_of_the_data(run_of: Callable[..., Run]) -> None:
    run = run_of(LINE, EXACT)
    assert run.resolved is not None
    scores = evaluated(run, build(run, run.resolved.generator))
    assert scores["margin"].value == pytest.approx(0.1008, abs=0.004)
    assert scores["wrong-side"].value == pytest.approx(0.0228, abs=0.008)
    assert scores["spread"].value == pytest.approx(0.05, abs=0.003)
    assert scores["crossings"].value == pytest.approx(0.5, abs=0.05)  # half of them start on the wrong side
    for name, score in scores.items():
        assert score.low <= score.value <= score.high, name
        assert (score.n_generated, score.n_real) == (2000, 2000)
    (plot,) = scores["margin"].plots.values()
    assert ElementTree.fromstring(plot).tag.endswith("svg")
    assert scores["margin"].extra["boundary"] == pytest.approx([0.0], abs=1e-9)


def test_what_it_does_not_apply_to_is_said_in_one_line(run_of: Callable[..., Run]) -> None:
    run = run_of(LINE, EXACT)
    assert run.resolved is not None
    generator = build(run, run.resolved.generator)

    class BlackBox:
        provides = frozenset[str]()

    assert evaluated(run, BlackBox()) == {}
    flat = run_of({"name": "fractal", "train": 50, "held_out": 50}, {**EXACT, "data": {"name": "fractal"}})
    assert evaluated(flat, generator) == {}
    assert "no denoiser" in run.log.warnings[0]  # type: ignore[attr-defined]
    assert "2 dimensions, not one" in flat.log.warnings[0]  # type: ignore[attr-defined]
