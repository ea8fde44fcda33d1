"""The evaluators of whole sets and of samples alone: values, what is said beside them, failures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genplug.errors import DataError, GenplugError
from genplug.statistics import Moments, Statistics
from genplug_metrics.config import (
    FdInfinityConfig,
    FrechetConfig,
    InceptionScoreConfig,
    KernelConfig,
    SlicedConfig,
    SpatialFrechetConfig,
    VendiConfig,
)
from genplug_metrics.frechet import fit_gaussian, frechet_from_features
from genplug_metrics.inception_score import inception_scores
from genplug_metrics.mmd import mmd
from genplug_metrics.vendi import spectrum, vendi

PAIRED = [
    (FrechetConfig(), "fd"),
    (SpatialFrechetConfig(), "sfd"),
    (FdInfinityConfig(), "fd-infinity"),
    (KernelConfig(subset_size=30), "kd"),
    (KernelConfig(form="full", kernel="rbf", sigma=2.0), "kd"),
    (SlicedConfig(), "sw"),
]
ALONE = [
    (InceptionScoreConfig(splits=1), "inception-score"),
    (VendiConfig(), "vendi"),
    (VendiConfig(kernel="rbf"), "vendi"),
]


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def judge(config: Any, inputs: Any, run: Any) -> Any:
    (found,) = config.build(run).evaluate(inputs, run).values()
    return found


@pytest.mark.parametrize(("config", "name"), PAIRED)
def test_scores_of_two_sets_are_far_from_noise_and_say_what_they_are_on(config, name, plain, given) -> None:  # type: ignore[no-untyped-def]
    real = rows(100, 4, 0)
    good, bad = (judge(config, given(fake, real), plain) for fake in (rows(80, 4, 1), rows(80, 4, 2) * 2 + 1))
    assert list(config.build(plain).evaluate(given(real, real), plain)) == [name]
    assert good.high < bad.low
    for found in (good, bad):
        assert found.low <= found.value <= found.high
        assert (found.n_generated, found.n_real, found.extractor) == (80, 100, "some")
        assert found.interval.startswith("90% jackknife")


@pytest.mark.parametrize(("config", "name"), ALONE)
def test_scores_of_samples_alone_see_more_kinds(config, name, plain, given) -> None:  # type: ignore[no-untyped-def]
    few, many = (judge(config, given(99 * torch.eye(9)[torch.arange(90) % kinds]), plain) for kinds in (2, 9))
    assert few.value == pytest.approx(2, rel=1e-3)
    assert many.value == pytest.approx(9, rel=1e-3)
    assert (many.n_generated, many.n_real) == (90, 0)
    assert many.low <= many.value <= many.high


@pytest.mark.parametrize(("config", "name"), PAIRED + ALONE)
def test_the_order_of_samples_does_not_matter(config, name, plain, given) -> None:  # type: ignore[no-untyped-def]
    fake, real, turn = (
        rows(64, 5, 0),
        rows(96, 5, 1),
        torch.randperm(64, generator=torch.Generator().manual_seed(0)),
    )
    before, after = (judge(config, given(one, real), plain) for one in (fake, fake[turn]))
    assert after.value == pytest.approx(before.value, rel=1e-9)


@pytest.mark.parametrize(("config", "name"), PAIRED + ALONE)
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_samples_are_refused_or_judged(config, name, n, plain, given) -> None:  # type: ignore[no-untyped-def]
    if n == 1 and name == "vendi":
        assert judge(config, given(rows(n, 4, 0)), plain).value == pytest.approx(1)
        return
    with pytest.raises(DataError, match=rf"needs at least \d samples of each set, not .*{n} generated"):
        judge(config, given(rows(n, 4, 0), rows(50, 4, 1)), plain)


@pytest.mark.parametrize(("config", "name"), PAIRED + ALONE)
def test_constant_features_give_a_number(config, name, plain, given) -> None:  # type: ignore[no-untyped-def]
    constant = torch.full((40, 4), 2.0)
    found = judge(config, given(constant, constant), plain)
    assert found.value == pytest.approx(1 if (config, name) in ALONE else 0, abs=1e-9)


@pytest.mark.parametrize(("config", "name"), PAIRED + ALONE)
def test_not_a_number_is_never_returned(config, name, plain, given) -> None:  # type: ignore[no-untyped-def]
    broken = rows(40, 4, 0)
    broken[7, 2] = torch.nan
    with pytest.raises(GenplugError, match=r"finite|NaN|nan"):
        judge(config, given(broken, rows(40, 4, 1)), plain)


@pytest.mark.parametrize(("config", "name"), PAIRED[2:])
def test_statistics_do_not_serve_where_rows_are_needed(config, name, plain, given) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="statistics of them do not serve"):
        judge(config, given(rows(40, 4, 0), statistics=object()), plain)


def test_the_spatial_distance_asks_for_the_spatial_output_and_the_inception_score_for_logits(
    plain, given
) -> None:  # type: ignore[no-untyped-def]
    judge(SpatialFrechetConfig(), given(rows(40, 4, 0), rows(40, 4, 1)), plain)
    judge(InceptionScoreConfig(), given(rows(40, 4, 0)), plain)
    assert plain.asked == ["spatial", "spatial", "logits"]


# --- Frechet ----------------------------------------------------------------------------------------------


def statistics_of(real: Tensor, **about: Any) -> Statistics:
    fitted = fit_gaussian(real)
    return Statistics("ref.npz", (Moments(fitted.mu_D, fitted.cov_DD, **about),))


def test_statistics_give_the_distance_of_their_samples(plain, given) -> None:  # type: ignore[no-untyped-def]
    real, fake = rows(60, 4, 0), rows(50, 4, 1) * 1.5
    known = judge(FrechetConfig(), given(fake, statistics=statistics_of(real, n=60)), plain)
    unknown = judge(FrechetConfig(), given(fake, statistics=statistics_of(real)), plain)
    rows_too = judge(FrechetConfig(), given(fake, real), plain)
    assert known.value == unknown.value == pytest.approx(frechet_from_features(fake, real).value, rel=1e-12)
    assert (known.n_real, unknown.n_real) == (60, 0)
    assert known.interval.endswith("the reference as it is")
    assert known.high - known.low < rows_too.high - rows_too.low
    assert (known.extra["reference"], rows_too.extra["reference"]) == ("statistics", "samples")


def test_statistics_of_another_width_are_refused(plain, given) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="statistics of 3 features, some gives 4"):
        judge(FrechetConfig(), given(rows(50, 4, 1), statistics=statistics_of(rows(60, 3, 0))), plain)


def test_fewer_samples_than_features_are_warned_of_once_with_the_effect(plain, given) -> None:  # type: ignore[no-untyped-def]
    fake, real = rows(20, 32, 0), rows(60, 32, 1)
    found = [judge(FrechetConfig(), given(fake, real), plain) for _ in range(2)]
    assert found[0].extra["rank_deficient"]
    assert found[0].value == pytest.approx(frechet_from_features(fake, real).value, rel=1e-12)
    (warning,) = plain.log.warnings
    assert "20 generated and 60 real samples are too few for 32 features" in warning
    assert "bias it upwards" in warning
    assert not judge(FrechetConfig(), given(rows(60, 8, 0), rows(60, 8, 1)), plain).extra["rank_deficient"]


def test_the_extrapolation_says_its_line_and_warns_where_it_is_none(plain, given) -> None:  # type: ignore[no-untyped-def]
    found = judge(FdInfinityConfig(points=4), given(rows(200, 4, 0), rows(300, 4, 1)), plain)
    assert found.extra["sizes"] == [20, 80, 140, 200]
    assert found.value < found.extra["largest"]
    assert plain.log.warnings == []
    judge(FdInfinityConfig(points=4), given(rows(40, 30, 0), rows(300, 30, 1)), plain)
    assert "20 samples for 30 features" in plain.log.warnings[0]


@pytest.mark.parametrize("smallest", [1, 50, 99])
def test_an_extrapolation_from_all_or_one_sample_is_refused(smallest, plain, given) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=f"cannot begin with {smallest} of 50 samples"):
        judge(FdInfinityConfig(smallest=smallest), given(rows(50, 4, 0), rows(60, 4, 1)), plain)


def test_an_extrapolation_without_an_interval_may_be_below_zero(plain, given) -> None:  # type: ignore[no-untyped-def]
    found = judge(FdInfinityConfig(smallest=2), given(rows(50, 4, 0), rows(60, 4, 0)), plain)
    assert found.low <= found.value <= found.high
    assert found.interval == "none: too few samples"


# --- kernel distance --------------------------------------------------------------------------------------


def test_the_kernel_distance_of_subsets_averages_to_that_of_whole_sets(plain, given) -> None:  # type: ignore[no-untyped-def]
    fake, real = rows(90, 4, 0) + 0.3, rows(120, 4, 1)
    whole = judge(KernelConfig(form="full"), given(fake, real), plain)
    drawn = judge(KernelConfig(subset_size=40, subsets=400), given(fake, real), plain)
    assert whole.value == pytest.approx(mmd(real, fake).unbiased, rel=1e-12)
    assert drawn.value == pytest.approx(whole.value, abs=3 * drawn.extra["std_over_subsets"] / 20)
    assert drawn.extra["subset_size"] == 40
    assert whole.extra["kernel"] == "(1/D x.y + 1)^3"
    assert drawn.high - drawn.low == pytest.approx(whole.high - whole.low, rel=0.5)


def test_subsets_as_large_as_both_sets_are_the_whole_sets(plain, given) -> None:  # type: ignore[no-untyped-def]
    found = judge(KernelConfig(), given(rows(50, 4, 0), rows(50, 4, 1)), plain)
    assert found.extra["form"] == "full"


# --- samples alone ----------------------------------------------------------------------------------------


def test_the_inception_score_in_one_part_is_that_of_all_rows(plain, given) -> None:  # type: ignore[no-untyped-def]
    logits = 3 * rows(70, 5, 0)
    found = judge(InceptionScoreConfig(splits=1), given(logits), plain)
    assert found.value == pytest.approx(float(inception_scores(logits, [slice(None)])), rel=1e-12)
    assert found.low < found.value < found.high
    assert "jackknife over 20 groups" in found.interval


def test_the_interval_of_the_inception_score_is_that_of_the_mean_of_parts(plain, given) -> None:  # type: ignore[no-untyped-def]
    found = judge(InceptionScoreConfig(), given(3 * rows(200, 5, 0)), plain)
    half = 1.833 * found.extra["std_over_splits"] / 3  # t_9 at 95 %, s / sqrt(10) = population std / 3
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), rel=0.01)


def test_vendi_has_other_orders_beside_it_and_classes_where_asked_for(plain, given) -> None:  # type: ignore[no-untyped-def]
    x, inputs = rows(60, 5, 0), given(rows(60, 5, 0))
    inputs.samples.labels = torch.arange(60) % 3
    found = judge(VendiConfig(order=2.0, per_class=True), inputs, plain)
    assert found.extra["orders"]["2"] == found.value == pytest.approx(vendi(spectrum(x), 2), rel=1e-12)
    assert list(found.extra["orders"]) == ["0.5", "1", "2", "inf"]
    assert found.extra["per_class"]["1"] == pytest.approx(vendi(spectrum(x[1::3]), 2), rel=1e-12)
    assert (found.extra["method"], found.extra["explained"]) == ("dual", 1.0)
    inputs.samples.labels = None
    with pytest.raises(DataError, match="rows has none"):
        judge(VendiConfig(per_class=True), inputs, plain)


def test_a_wide_vendi_matrix_is_estimated_and_said_to_be(plain, given) -> None:  # type: ignore[no-untyped-def]
    x = rows(60, 40, 0)
    found = judge(VendiConfig(exact_up_to=20, landmarks=15), given(x), plain)
    assert found.extra["method"] == "low-rank"
    assert found.extra["explained"] < 1
    assert found.value < vendi(spectrum(x))


def test_a_black_image_has_no_cosine(plain, given) -> None:  # type: ignore[no-untyped-def]
    x = torch.cat([rows(20, 4, 0), torch.zeros(1, 4)])
    with pytest.raises(DataError, match=r"a row of zeros has no direction.*kernel rbf takes such"):
        judge(VendiConfig(), given(x), plain)
    assert judge(VendiConfig(kernel="rbf"), given(x), plain).value > 1
