"""The evaluators of neighbourhoods: values, conventions, what is said beside them, failures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genplug.errors import DataError, GenplugError
from genplug_metrics.config import AuthenticityConfig, CtConfig, PrdcConfig, RealismConfig
from genplug_metrics.memorisation import mann_whitney_z
from genplug_metrics.prdc import prdc, realism
from genplug_metrics.rank_sums import z_variance

ALL = [PrdcConfig(), RealismConfig(), AuthenticityConfig(), CtConfig(cells=2)]


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def judge(config: Any, inputs: Any, run: Any) -> Any:
    return config.build(run).evaluate(inputs, run)


def lattice(n: int, seed: int) -> Tensor:
    return torch.randint(4, (n, 3), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("convention", ["published", "<", "<="])
def test_the_convention_decides_ties_and_is_recorded(convention, plain, given) -> None:  # type: ignore[no-untyped-def]
    real, fake = lattice(60, 0), lattice(60, 1)
    found = judge(PrdcConfig(k=3, convention=convention), given(fake, real), plain)
    strict, closed = (prdc(real, fake, (3,), convention=c)[3] for c in ("<", "<="))  # type: ignore[arg-type]
    assert strict.precision < closed.precision
    assert strict.density < closed.density
    for name, score in found.items():
        late = name in ("density", "coverage")
        expected = strict if convention == "<" or (convention == "published" and late) else closed
        assert score.value == getattr(expected, name)
        assert score.extra == {"k": 3, "convention": convention, "distance": "euclidean"}
        assert score.low <= score.value <= score.high


def test_unequal_counts_are_made_equal_unless_told_otherwise(plain, given) -> None:  # type: ignore[no-untyped-def]
    inputs = given(rows(70, 3, 0), rows(50, 3, 1))
    equal, whole = (judge(PrdcConfig(equal_counts=flag), inputs, plain)["recall"] for flag in (True, False))
    assert (equal.n_generated, equal.n_real) == (50, 50)
    assert (whole.n_generated, whole.n_real) == (70, 50)


def test_the_distance_of_balls_may_be_any(plain, given) -> None:  # type: ignore[no-untyped-def]
    real, fake = rows(60, 3, 0), rows(60, 3, 1)
    longer = fake * torch.rand(60, 1, generator=torch.Generator().manual_seed(2)).add(1)
    config = PrdcConfig.model_validate({"distance": "cosine"})
    before, after = (judge(config, given(one, real), plain)["precision"] for one in (fake, longer))
    assert before.value == after.value
    assert before.extra["distance"] == "cosine"
    with pytest.raises(DataError, match="prdc on some: cosine distance is undefined for a row of zeros"):
        judge(config, given(torch.cat([fake, torch.zeros(1, 3)]), real), plain)


def test_realism_is_the_median_and_counts_exact_copies(plain, given) -> None:  # type: ignore[no-untyped-def]
    real, fake = rows(80, 3, 0), rows(41, 3, 1)
    found = judge(RealismConfig(), given(fake, real), plain)["realism"]
    values = realism(real, fake, 3)
    assert found.value == float(values.median())
    assert found.low <= found.value <= found.high
    assert found.extra["share_above_1"] == float((values > 1).double().mean())
    copies = judge(RealismConfig(), given(real, real), plain)["realism"]
    assert copies.extra["exact_copies"] > 0


def test_near_copies_are_not_authentic_and_push_ct_below_zero(plain, given) -> None:  # type: ignore[no-untyped-def]
    train, held_out = rows(100, 4, 0), rows(90, 4, 1)
    copies, fresh = train[:80] + 0.01 * rows(80, 4, 2), rows(80, 4, 3)
    for config, name in ((AuthenticityConfig(), "authenticity-gap"), (CtConfig(cells=2), "ct")):
        bad, good = (judge(config, given(fake, held_out, train), plain)[name] for fake in (copies, fresh))
        assert bad.high < good.low
        assert bad.extra["n_train"] == 100
    assert good.low < 0 < good.high
    assert bad.value < -5
    assert good.extra["cells"] == 2
    assert (good.n_generated, good.n_real) == (80, 90)


@pytest.mark.parametrize(("width", "expected"), [(1, 1 / 3), (2, 1 - 0.6215)])
def test_authenticity_of_fresh_samples_is_the_chance_of_no_mutual_neighbours(
    width, expected, plain, given
) -> None:  # type: ignore[no-untyped-def]
    """Uniform on a line: 2/3 of nearest neighbours are mutual; in a plane 6 pi / (8 pi + 3 sqrt 3)."""
    g = torch.Generator().manual_seed(0)
    sets = [torch.rand(n, width, generator=g) for n in (1500, 1400, 3000)]
    found = judge(AuthenticityConfig(), given(*sets), plain)
    assert found["authenticity"].value == pytest.approx(expected, abs=0.03)
    assert found["authenticity"].extra["authpct"] == 100 * found["authenticity"].value
    gap = found["authenticity-gap"]
    assert gap.value == found["authenticity"].value - gap.extra["of_held_out"]
    assert gap.low - 0.03 < 0 < gap.high + 0.03


def test_the_interval_of_ct_covers_the_spread_over_samples(plain, given) -> None:  # type: ignore[no-untyped-def]
    train, values, halves = rows(200, 3, 0), [], []
    for s in range(60):
        inputs = given(1.1 * rows(80, 3, 2 * s + 1), rows(90, 3, 2 * s + 2), train)
        found = judge(CtConfig(cells=2), inputs, plain)["ct"]
        values.append(found.value)
        halves.append(found.high - found.value)
    deviation = float(torch.tensor(values).double().std())
    assert sum(halves) / 60 / 1.645 == pytest.approx(deviation, rel=0.2)


def test_the_variance_of_z_is_one_for_equal_distributions_and_smaller_for_separate_ones() -> None:
    pairs = [(rows(50, 1, 2 * s)[:, 0], rows(40, 1, 2 * s + 1)[:, 0]) for s in range(200)]
    assert torch.tensor([mann_whitney_z(a, b) for a, b in pairs]).var() == pytest.approx(1, abs=0.2)
    assert sum(z_variance(a, b) for a, b in pairs) / 200 == pytest.approx(1, abs=0.1)
    assert z_variance(pairs[0][0], pairs[0][1] + 100) == 0
    assert z_variance(pairs[0][0][:1], pairs[0][1]) == 1


@pytest.mark.parametrize("config", ALL, ids=lambda c: type(c).__name__)
def test_the_order_of_samples_does_not_matter(config, plain, given) -> None:  # type: ignore[no-untyped-def]
    def turned(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(7))]

    sets = [rows(n, 4, n) for n in (70, 96, 90)]
    before, after = judge(config, given(*sets), plain), judge(config, given(*map(turned, sets)), plain)
    assert {n: s.value for n, s in before.items()} == pytest.approx({n: s.value for n, s in after.items()})


@pytest.mark.parametrize("config", ALL, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_samples_are_refused_in_one_line(config, n, plain, given) -> None:  # type: ignore[no-untyped-def]
    sets = [rows(n, 4, 0), rows(50, 4, 1), rows(50, 4, 2)]
    if n == 1 and isinstance(config, AuthenticityConfig):
        assert judge(config, given(*sets), plain)["authenticity"].value in (0, 1)  # one is a share too
        return
    with pytest.raises(DataError, match=r"needs at least \d samples of each set, not"):
        judge(config, given(*sets), plain)


@pytest.mark.parametrize("config", ALL, ids=lambda c: type(c).__name__)
def test_not_a_number_is_never_returned(config, plain, given) -> None:  # type: ignore[no-untyped-def]
    broken = rows(40, 4, 0)
    broken[7, 2] = torch.nan
    with pytest.raises(GenplugError, match="features of rows by some are not finite in row 7"):
        judge(config, given(broken, rows(40, 4, 1), rows(40, 4, 2)), plain)


def test_constant_features_give_numbers_or_a_reason(plain, given) -> None:  # type: ignore[no-untyped-def]
    constant = torch.full((40, 4), 2.0)
    sets = given(constant, constant, constant)
    four = {name: s.value for name, s in judge(PrdcConfig(), sets, plain).items()}
    assert four == {"precision": 1, "recall": 1, "density": 0, "coverage": 0}
    assert {s.value for s in judge(AuthenticityConfig(), sets, plain).values()} == {0}
    assert abs(judge(CtConfig(), sets, plain)["ct"].value) < 0.1
    with pytest.raises(DataError, match="realism is undefined"):
        judge(RealismConfig(), sets, plain)


def test_too_few_samples_for_any_cell_are_said(plain, given) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"no cell has 20 of the 15 generated samples.*evaluator.ct.cells"):
        judge(CtConfig(), given(rows(15, 3, 0), rows(40, 3, 1), rows(40, 3, 2)), plain)


@pytest.mark.parametrize("config", ALL[2:], ids=lambda c: type(c).__name__)
def test_missing_training_data_is_said(config, plain, given) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="needs the samples that the generator was trained on"):
        judge(config, given(rows(40, 4, 0), rows(40, 4, 1)), plain)
