"""The data sets: fixed, labelled as they say, with their true density."""

from __future__ import annotations

import math

import pytest
import torch

from genplug.errors import DataError
from genplug.samplesets import read_all
from genplug_toy.config import FractalConfig, Gaussians1dConfig, MixtureConfig
from genplug_toy.datasets import fractal_data, gaussians_1d
from genplug_toy.fractal import fractal

SMALL = {"train": 400, "held_out": 300}


def test_points_are_the_same_on_every_call_and_begin_alike_in_larger_splits() -> None:
    small, large = (fractal_data(FractalConfig(classes="both", train=n)) for n in (100, 1000))
    assert torch.equal(read_all(small.split("train")), read_all(large.split("train"))[:100])
    assert small.split("held-out").fingerprint == large.split("held-out").fingerprint
    assert small.split("held-out").fingerprint.startswith("458be709979340b5")


def test_no_held_out_point_is_in_the_training_data() -> None:
    data = fractal_data(FractalConfig())
    train, held_out = (read_all(data.split(name)) for name in ("train", "held-out"))
    assert len(torch.cat([train, held_out]).unique(dim=0)) == 40_000


@pytest.mark.parametrize("config", [Gaussians1dConfig(**SMALL), FractalConfig(classes="both", **SMALL)])
def test_two_classes_are_equally_frequent_and_labelled_right(config: MixtureConfig) -> None:
    data = config.build(None)
    train = data.split("train")
    assert data.num_classes == 2
    assert torch.bincount(train.labels).tolist() == [200, 200]
    right_N = data.mixture().posterior(read_all(train)).argmax(1) == train.labels
    assert right_N.float().mean() > 0.99
    halves = [data.log_density(read_all(train), 0.1, label) for label in (0, 1)]
    together_N = torch.stack(halves).logsumexp(0) - math.log(2)
    assert torch.allclose(data.log_density(read_all(train), 0.1), together_N, atol=1e-5)


def test_one_class_of_the_fractal_has_no_labels() -> None:
    data = fractal_data(FractalConfig(classes="B", **SMALL))
    assert data.num_classes is None
    assert data.split("train").labels is None
    assert torch.equal(data.mixture().means_MD, fractal().of_class(1).means_MD)


@pytest.mark.parametrize(("spread_is", "std"), [("std", 0.05), ("variance", math.sqrt(0.05))])
def test_classes_on_a_line_are_where_they_should_be(spread_is: str, std: float) -> None:
    data = gaussians_1d(Gaussians1dConfig(separation=0.5, spread_is=spread_is))
    x_N, labels_N = read_all(data.split("train"))[:, 0], data.split("train").labels
    for label, mean in ((0, -0.5), (1, 0.5)):
        assert float(x_N[labels_N == label].mean()) == pytest.approx(mean, abs=0.01)
        assert float(x_N[labels_N == label].std()) == pytest.approx(std, rel=0.03)


def test_shifted_classes_entangle() -> None:
    """The more B is moved into A, the less sure is the class of a point, seen with noise of 0.1."""
    doubts = []
    for shift in (0.0, 0.15, 0.3):
        data = fractal_data(FractalConfig(classes="both", shift=shift, **SMALL))
        x_ND = read_all(data.split("train"))
        doubts.append(float(1 - data.mixture().posterior(x_ND, 0.1).max(1).values.mean()))
    assert doubts == sorted(doubts)
    assert doubts[2] > 2 * doubts[0]
    moved = fractal(0.3).means_MD - fractal().means_MD
    assert torch.equal(moved[:1016], torch.zeros(1016, 2).double())
    assert torch.allclose(moved[1016:], 0.3 * torch.tensor([1.3136, 1.3844]).double(), atol=1e-6)


def test_an_unknown_split_is_one_line() -> None:
    with pytest.raises(DataError, match="fractal has the splits train, held-out, not 'test'"):
        fractal_data(FractalConfig()).split("test")
