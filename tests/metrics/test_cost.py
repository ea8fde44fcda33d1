"""The evaluator of costs: counts that are known, memory that is known, a black box, guidance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genplug
from genplug.errors import DataError
from genplug.guided import guided
from genplug_metrics.config import CostConfig
from genplug_metrics.watching import LiveBytes, watch_calls


class Box:
    """A black box: samples, and nothing else."""

    modality, size, provides = "image", None, frozenset[str]()

    def sample(self, seeds_N: Tensor, cond: Any = None) -> Tensor:
        return torch.zeros(len(seeds_N), 1, 4, 4, dtype=torch.uint8)

    def conditions(self, seeds_N: Tensor, policy: str = "balanced") -> None:
        return None

    def state_dict(self) -> dict[str, Tensor]:
        return {}


def judge(generator: Any, plain: Any, given: Any, **options: Any) -> Any:
    inputs = given(torch.zeros(5, 2), generator=generator)
    config = CostConfig(samples=8, repeats=2, **options)
    return config.build(plain).evaluate(inputs, plain)


@pytest.fixture(scope="module")
def edm2() -> Any:
    return genplug.load("edm2")


def test_a_sampler_of_twelve_steps_evaluates_its_network_twelve_times(edm2, plain, given) -> None:  # type: ignore[no-untyped-def]
    found = judge(edm2, plain, given)
    assert found["evaluations-per-image"].value == 12
    assert found["parameters"].value == sum(p.numel() for p in edm2.module.parameters())
    assert found["evaluations-per-image"].extra["networks"] == {type(edm2.module).__name__: 12}
    assert 0 < found["seconds-per-image"].low <= found["seconds-per-image"].value < 1
    assert 0 < found["megabytes-per-image"].value < 1
    assert all(score.extra["measured"] and score.n_generated == 5 for score in found.values())


def test_guidance_by_a_second_network_doubles_evaluations_and_parameters(edm2, plain, given) -> None:  # type: ignore[no-untyped-def]
    plainly, both = (judge(g, plain, given) for g in (edm2, guided(edm2, genplug.load("edm2"), 2.0)))
    for name in ("evaluations-per-image", "parameters"):
        assert both[name].value == 2 * plainly[name].value


def test_a_black_box_leaves_out_what_it_cannot_know(plain, given) -> None:  # type: ignore[no-untyped-def]
    assert set(judge(Box(), plain, given)) == {"seconds-per-image", "megabytes-per-image"}


def test_weights_outside_of_modules_are_counted(plain, given) -> None:  # type: ignore[no-untyped-def]
    box = Box()
    box.state_dict = lambda: {"a": torch.zeros(3, 4), "b": torch.zeros(2)}  # type: ignore[method-assign]
    found = judge(box, plain, given)
    assert found["parameters"].value == 14
    assert "evaluations-per-image" not in found


def test_a_finite_generator_is_asked_for_no_more_than_it_has(plain, given) -> None:  # type: ignore[no-untyped-def]
    box, asked = Box(), []
    box.size = 3  # type: ignore[assignment]
    box.sample = lambda seeds_N, cond=None: asked.append(len(seeds_N)) or torch.zeros(len(seeds_N), 1)  # type: ignore
    judge(box, plain, given)
    assert set(asked) == {3}


def test_samples_without_their_generator_are_refused(plain, given) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="cost needs the generator itself"):
        judge(None, plain, given)


def test_the_peak_is_of_tensors_alive_at_once() -> None:
    weights = torch.zeros(1000, 250)  # made before: not counted, nor are views of it
    with LiveBytes() as live:
        for _ in range(3):
            a = torch.ones(250, 100) + 1  # two of 100 kB, of which one is dropped
            product = weights[:10] @ a  # 4 kB
            del a
        del product
    assert live.peak == 2 * 100_000 + 4_000  # the product of the round before is still alive


def test_calls_inside_of_calls_are_one_evaluation_even_after_an_error() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with watch_calls() as calls:
        with pytest.raises(RuntimeError):
            network(torch.zeros(5, 4))
        network(torch.zeros(7, 3))
    network(torch.zeros(9, 3))
    assert calls.rows == {"Sequential": 12}
    assert calls.parameters == 3 * 3 + 3 + 3 * 2 + 2
