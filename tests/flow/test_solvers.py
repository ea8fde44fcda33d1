"""Solvers against an equation with a known solution: their orders, and every row on its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genplug_flow.solvers import Dopri5, FixedSteps, Method

RATE, SPEED = -2.0, 5.0


def velocity(x: Tensor, t_N: Tensor, rows_N: Tensor) -> Tensor:
    """dx/dt = -2 x + cos 5t."""
    return RATE * x + (SPEED * t_N).cos()[:, None]


def exact(x: Tensor) -> Tensor:
    """Return x(1): the particular solution is A cos 5t + B sin 5t."""
    B = SPEED / (SPEED**2 + RATE**2)
    A = -RATE * B / SPEED
    return (x - A) * math.exp(RATE) + A * math.cos(SPEED) + B * math.sin(SPEED)


@pytest.fixture
def start() -> Tensor:
    return torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_errors_fall_with_the_order_of_the_method(method: Method, order: int, start: Tensor) -> None:
    coarse, fine = (
        float((FixedSteps(method, steps).solve(velocity, start).x - exact(start)).abs().max())
        for steps in (40, 80)
    )
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.05)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8])
def test_dopri5_is_as_exact_as_it_is_told(tolerance: float, start: Tensor) -> None:
    solution = Dopri5(tolerance, tolerance).solve(velocity, start)
    assert float((solution.x - exact(start)).abs().max()) < 5 * tolerance
    assert bool((solution.evaluations_N % 6 == 2).all())  # two for the first step, six for every step


def test_dopri5_takes_more_evaluations_where_more_is_going_on() -> None:
    stiffness = torch.tensor([1.0, 60.0])[:, None]
    solution = Dopri5().solve(lambda x, t, rows: -stiffness[rows] * x, torch.ones(2, 1))
    assert torch.allclose(solution.x, torch.exp(-stiffness), atol=1e-4)
    assert int(solution.evaluations_N[1]) > 2 * int(solution.evaluations_N[0])


@pytest.mark.parametrize("solver", [Dopri5(), FixedSteps("heun", 10)])
def test_a_row_does_not_depend_on_its_batch(solver: Dopri5 | FixedSteps) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    speed = torch.tensor([0.5, 3.0, 20.0, 60.0])[:, None]

    def of(first: int) -> torch.Tensor:
        return solver.solve(lambda x, t, rows: -speed[rows + first] * x, x[first : first + 1]).x

    together = solver.solve(lambda x, t, rows: -speed[rows] * x, x).x
    assert torch.equal(torch.cat([of(row) for row in range(4)]), together)


def test_a_row_that_diverges_is_nan_and_no_other() -> None:
    """dx/dt = 40 x^2 from 1 blows up at t = 1/40."""
    rate = torch.tensor([40.0, 0.5])[:, None]
    solution = Dopri5().solve(lambda x, t, rows: rate[rows] * x**2, torch.ones(2, 1))
    assert bool(solution.x[0].isnan().all())
    assert float(solution.x[1]) == pytest.approx(2.0, abs=1e-4)
