"""The decision boundary between classes of known density, at every noise level.

The boundary of class c is where p(c | x; sigma) equals that of the most probable other class, classes being
equally frequent: the root of the log-odds ln p(x | c; sigma) - max over k != c of ln p(x | k; sigma).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor

from genplug.runtime import Run

CELLS = 4096  # of the grid on which roots are bracketed
SECTIONS, ROUNDS = 64, 8  # each round cuts a bracket into so many: 64^8 = 2^48


class LogDensity(Protocol):
    """The density of data plus noise: `log_density` of a data set."""

    def __call__(self, x_ND: Tensor, sigma: float, label: int | None) -> Tensor:
        """Return nats, N; of one class, or of all with label None."""


def known_density(run: Run) -> LogDensity | None:
    """Return the density of the run's data; None where it is not known."""
    if run.resolved is None:
        return None
    return cast("LogDensity | None", getattr(run.data, "log_density", None))


def class_count(run: Run) -> int:
    """Return the number of classes of the run's data; 0 without labels."""
    return (run.data.num_classes or 0) if run.resolved is not None else 0


def log_odds(density: LogDensity, x_ND: Tensor, sigma: float, label: int, classes: int) -> Tensor:
    """Return ln p(x | label) less that of the most probable other class, float64 N."""
    x_ND = x_ND.double()
    others = [density(x_ND, sigma, k) for k in range(classes) if k != label]
    return density(x_ND, sigma, label) - torch.stack(others).amax(0)


def roots(f: Callable[[Tensor], Tensor], low: float, high: float) -> Tensor:
    """Return where a function of x_N changes its sign in [low, high], ascending float64, by sectioning."""
    grid = torch.linspace(low, high, CELLS + 1, dtype=torch.float64)
    positive = f(grid) > 0
    at = (positive[:-1] != positive[1:]).nonzero().flatten()
    a_R, b_R = grid[at], grid[at + 1]
    share_S = torch.linspace(0, 1, SECTIONS + 1, dtype=torch.float64)
    for _ in range(ROUNDS if len(at) else 0):
        x_RS = torch.lerp(a_R[:, None], b_R[:, None], share_S)
        positive_RS = (f(x_RS.flatten()) > 0).reshape(x_RS.shape)
        first_R1 = (positive_RS[:, 1:] != positive_RS[:, :1]).int().argmax(1, keepdim=True)
        a_R, b_R = x_RS.gather(1, first_R1)[:, 0], x_RS.gather(1, first_R1 + 1)[:, 0]
    return (a_R + b_R) / 2


def distance_to(x_N: Tensor, roots_R: Tensor) -> Tensor:
    """Return the distance of each x to the nearest root, N; NaN where there is none."""
    if len(roots_R) == 0:
        return torch.full_like(x_N, torch.nan)
    return (x_N[:, None] - roots_R).abs().amin(1)
