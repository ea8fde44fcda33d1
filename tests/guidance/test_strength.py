"""How strong guidance is: the scale by noise level, its course over the steps, its conventions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import genplug
from genplug.config import validate
from genplug.errors import ConfigError
from genplug_guidance.config import CfgConfig, GuidanceConfig
from genplug_guidance.strength import Strength, from_edm, shares, strength_of, to_edm

STEPS = 5


def strength(**options: Any) -> Strength:
    config = validate(CfgConfig, options, "objective")
    return strength_of(config, genplug.load("toy-exact", sampler__steps=STEPS))


def levels() -> torch.Tensor:
    generator: Any = genplug.load("toy-exact", sampler__steps=STEPS)
    return generator.sampler.sigmas(generator.noise)[:-1]


def test_outside_of_its_interval_there_is_no_guidance() -> None:
    w = strength(scale=3.0, sigma_low=0.1, sigma_high=2.0)
    sigma_N = torch.tensor([0.05, 0.1, 0.5, 2.0, 2.1])
    assert w(sigma_N).tolist() == [1, 3, 3, 3, 1]
    assert (w.excess(sigma_N) == 0).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [3, 3, 3, 3, 3]),
        ("linear", [1, 1.5, 2, 2.5, 3]),
        ("cosine", [2 - math.cos(math.pi * t) for t in (0, 0.25, 0.5, 0.75, 1)]),
        ((0, 1, 0.5, 0, 2), [1, 3, 2, 1, 5]),
    ],
)
def test_a_schedule_gives_each_step_its_share(schedule: Any, expected: list[float]) -> None:
    """w = 1 + share (scale - 1), from the highest noise level to the lowest."""
    w = strength(scale=3.0, schedule=schedule)
    torch.testing.assert_close(w(levels()), torch.tensor(expected, dtype=torch.float32))
    churned = levels() * 1.05
    torch.testing.assert_close(w(churned), w(levels()))


def test_another_scale_keeps_the_course() -> None:
    w = strength(scale=3.0, schedule="linear", sigma_high=1.0)
    assert torch.equal(w.with_scale(5.0).excess(levels()), 2 * w.excess(levels()))
    assert not w.with_scale(1.0).excess(levels()).any()


def test_one_step_has_the_first_share() -> None:
    assert shares("constant", 1) == [1]
    assert shares("linear", 1) == shares("cosine", 1) == [0]


@pytest.mark.parametrize("length", [STEPS - 1, STEPS + 1])
def test_a_list_must_have_one_value_for_each_step(length: int) -> None:
    with pytest.raises(ConfigError, match=f"schedule has {length} values, the sampler {STEPS} steps"):
        strength(schedule=[1.0] * length)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma_low": 2.0, "sigma_high": 1.0}, "sigma_low is above sigma_high"),
        ({"schedule": []}, "empty list"),
        ({"schedule": [float("nan")]}, "schedule"),
        ({"schedule": "sine"}, "schedule"),
        ({"convention": "var", "schedule": "cosine"}, "leave schedule out"),
        ({"convention": "edn"}, "convention"),
        ({"scale": float("inf")}, "scale"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validate(CfgConfig, options, "objective")


@pytest.mark.parametrize("convention", ["edm", "ho", "ddo", "var"])
@pytest.mark.parametrize("scale", [-0.5, 0.0, 1.0, 2.25])
def test_conventions_are_converted_there_and_back(convention: str, scale: float) -> None:
    """With D and G arbitrary numbers, the conventions' own formulas agree with G + w (D - G)."""
    D, G, w = 0.7, -1.9, to_edm(scale, convention)
    own = G + scale * (D - G) if convention == "edm" else (1 + scale) * D - scale * G
    assert G + w * (D - G) == pytest.approx(own)
    assert from_edm(w, convention) == pytest.approx(scale)


def test_vars_ramp_rises_from_none_to_its_scale() -> None:
    """Scale si of S has t = cfg si / (S - 1) in (1 + t) D - t G, which is w = 1 + t."""
    w = strength(scale=1.4, convention="var")
    expected = [1 + 1.4 * si / (STEPS - 1) for si in range(STEPS)]
    torch.testing.assert_close(w(levels()), torch.tensor(expected))


def test_all_guidance_of_this_package_has_these_options() -> None:
    from genplug.registry import catalog

    objectives = [e for e in catalog().entries["objective"].values() if "genplug_guidance" in e.spec.config]
    assert objectives
    assert all(issubclass(entry.config_model(), GuidanceConfig) for entry in objectives)
