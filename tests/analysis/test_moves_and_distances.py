"""Displacements, Wasserstein distances and overlaps of sets that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

from genplug.loading import build
from genplug.protocols import EvalInputs
from genplug.runtime import Run
from genplug.samplesets import ArraySet
from genplug_analysis.config import DisplacementConfig, PointsPlotConfig, WassersteinConfig
from genplug_analysis.displacement import Displacement, binned, scores_of
from genplug_analysis.drawing import REAL, class_colour, class_plot
from genplug_analysis.points_plot import PointsPlot, cells, overlap
from genplug_analysis.wasserstein import Wasserstein, directions, sliced

FRACTAL = {"name": "fractal", "classes": "both", "train": 1000, "held_out": 1000}
EXACT = {
    "name": "toy-exact",
    "data": {"name": "fractal", "classes": "both"},
    "sigma_max": 5.0,
    "sampler": {"name": "heun", "steps": 6},
}


class Moved:
    """A generator whose samples are another one's, far ones moved more."""

    def __init__(self, inner: Any, by: Callable[[Tensor], Tensor]) -> None:
        self.inner, self.by = inner, by

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sample(self, seeds_N: Tensor, cond: Any = None) -> Tensor:
        return self.by(self.inner.sample(seeds_N, cond))


def displaced(run: Run, by: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    assert run.resolved is not None
    base = build(run, run.resolved.generator)
    inputs = EvalInputs(
        ArraySet(torch.zeros(300, 2)), held_out=run.dataset("held-out"), generator=Moved(base, by), base=base
    )
    return Displacement(DisplacementConfig()).evaluate(inputs, run)


def test_an_identical_generator_moves_nothing(run_of: Callable[..., Run]) -> None:
    scores = displaced(run_of(FRACTAL, EXACT), lambda x: x)
    assert {name: score.value for name, score in scores.items()} == dict.fromkeys(
        ["displacement", "displacement-near", "displacement-far"], 0.0
    )


def test_a_shift_is_measured_and_drawn(run_of: Callable[..., Run]) -> None:
    scores = displaced(run_of(FRACTAL, EXACT), lambda x: x + torch.tensor([0.3, 0.4]))
    assert scores["displacement"].value == pytest.approx(0.5, rel=1e-5)
    assert scores["displacement-near-to-far"].value == pytest.approx(1.0, rel=1e-5)
    curves = scores["displacement"].extra["curves"]
    assert set(curves) == {"distance to real samples", "log-odds of the own class"}
    assert len(scores["displacement"].plots) == 3
    for plot in scores["displacement"].plots.values():
        assert ElementTree.fromstring(plot).tag.endswith("svg")


def test_near_and_far_samples_are_told_apart() -> None:
    move_N, far_N = torch.tensor([1.0, 1.0, 4.0, 6.0]).double(), torch.tensor([False, False, True, True])
    scores = scores_of(move_N, far_N, 9, 0, {}, {})
    values = {name: score.value for name, score in scores.items()}
    assert values == {
        "displacement": 3.0,
        "displacement-near": 1.0,
        "displacement-far": 5.0,
        "displacement-near-to-far": 0.2,
    }
    assert "displacement-far" not in scores_of(move_N, far_N & False, 9, 0, {}, {})


def test_bins_are_equally_large_and_in_order() -> None:
    curve = binned(torch.tensor([3.0, 1.0, 2.0, 4.0]), torch.tensor([30.0, 10.0, 20.0, 40.0]), 2)
    assert curve["at"] == [1.5, 3.5]
    assert curve["move"] == [15.0, 35.0]


def test_samples_of_other_shapes_are_no_pairs(run_of: Callable[..., Run]) -> None:
    run = run_of(FRACTAL, EXACT)
    assert displaced(run, lambda x: x[:, :1]) == {}
    assert "shapes (2,), (1,) and (2,)" in run.log.warnings[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 6), (5, 3)])
def test_wasserstein_on_a_line_equals_repeating_rows_to_equal_counts(n: int, m: int) -> None:
    g = torch.Generator().manual_seed(n)
    x, y = torch.randn(n, 1, generator=g).double(), torch.randn(m, 1, generator=g).double() + 1
    times = math.lcm(n, m)
    a, b = (
        x.repeat_interleave(times // n, 0).sort(0).values,
        y.repeat_interleave(times // m, 0).sort(0).values,
    )
    assert sliced(x, y) == pytest.approx(float((a - b).square().mean().sqrt()))


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_a_shift_has_its_length_over_the_root_of_the_dimension(dims: int) -> None:
    along = directions(dims, 2000)
    assert torch.allclose(along.norm(dim=0), torch.ones(along.shape[1], dtype=torch.float64))
    x = torch.randn(50, dims, generator=torch.Generator().manual_seed(0)).double()
    assert sliced(x @ along, (x + 0.7) @ along) == pytest.approx(0.7, rel=0.05)  # |shift| = 0.7 sqrt(D)


def test_wasserstein_is_given_for_each_class() -> None:
    g = torch.Generator().manual_seed(0)
    real, labels = torch.randn(400, 2, generator=g), torch.arange(400) % 2
    fake = real + labels[:, None] * torch.tensor([2.0, 0.0])
    inputs = EvalInputs(ArraySet(fake, labels), held_out=ArraySet(real, labels))
    scores = Wasserstein(WassersteinConfig()).evaluate(inputs, _seeded())
    assert scores["wasserstein-class-0"].value == pytest.approx(0.0, abs=1e-6)
    assert scores["wasserstein-class-1"].value == pytest.approx(math.sqrt(2), rel=1e-3)
    assert scores["wasserstein"].value > 0.3
    assert scores["wasserstein-class-1"].n_real == 200


def test_overlap_counts_common_cells() -> None:
    real = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.1, 0.1], [0.9, 0.9]])
    fake = torch.tensor([[0.05, 0.05], [5.0, 5.0], [0.95, 0.9], [0.2, 0.9]])
    assert overlap(*cells(fake, real, 2)) == pytest.approx(0.5)
    assert overlap(*cells(real, real, 2)) == 1.0


def test_the_picture_has_the_boundary_where_densities_are_known(run_of: Callable[..., Run]) -> None:
    run = run_of(FRACTAL, EXACT)
    inputs = EvalInputs(run.dataset("train"), held_out=run.dataset("held-out"))
    (score,) = PointsPlot(PointsPlotConfig()).evaluate(inputs, run).values()
    assert 0.5 < score.value < 1
    (plot,) = score.plots.values()
    assert "decision boundary" in plot
    assert {"s0", "s1", "s2", "s3"} <= {node.get("class") for node in ElementTree.fromstring(plot)}


def _seeded() -> Any:
    class Seeded:
        seed = 0

    return Seeded()


def test_many_classes_carry_their_numbers_and_none_is_grey_as_real_points_are() -> None:
    assert REAL not in {class_colour(label) for label in range(40)}
    points = {label: torch.full((2, 2), float(label)) for label in range(10)}
    plot = ElementTree.fromstring(class_plot("ten", points, torch.zeros(3, 2), None))
    texts = [node.text for node in plot if node.tag.endswith("text")]
    assert {str(label) for label in range(10)} <= set(texts)
