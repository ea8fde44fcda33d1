"""Vendi score: golden data, extremes, the two exact routes, the estimate, the deviation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genplug_metrics.gram import congruence, gram
from genplug_metrics.vendi import Spectrum, log_deviation, spectrum, vendi

ORDERS = [0.5, 1.0, 2.0, math.inf]


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("order", "suffix"), [(1, ""), (0.5, "_q0p5"), (2, "_q2"), (math.inf, "_qinf")])
def test_orders_equal_the_golden_ones(golden: dict[str, Tensor], order: float, suffix: str) -> None:
    got = vendi(spectrum(golden["in/fake"]), order)
    assert got == pytest.approx(golden[f"out/vendi_cosine_fake{suffix}"].item(), rel=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", ["cosine", "linear", "rbf"])
def test_equal_rows_count_once(kernel, order: float) -> None:  # type: ignore[no-untyped-def]
    assert vendi(spectrum(rows(1, 7, 0).expand(20, 7), kernel), order) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("kernel", "repeats"), [("cosine", 1), ("cosine", 4), ("linear", 4), ("rbf", 4)])
def test_rows_without_anything_in_common_count_each(kernel, repeats: int, order: float) -> None:  # type: ignore[no-untyped-def]
    far = 50 * torch.eye(6).repeat(repeats, 1)
    assert vendi(spectrum(far, kernel, sigma=1.0), order) == pytest.approx(6, rel=1e-9)


@pytest.mark.parametrize("kernel", ["cosine", "linear"])
def test_the_score_does_not_depend_on_which_matrix_is_smaller(kernel) -> None:  # type: ignore[no-untyped-def]
    x = rows(40, 12, 0)
    dual = spectrum(x, kernel)
    primal = spectrum(torch.cat([x, torch.zeros(40, 30)], 1), kernel)
    assert (dual.method, primal.method) == ("dual", "primal")
    for order in ORDERS:
        assert vendi(primal, order) == pytest.approx(vendi(dual, order), rel=1e-7)


@pytest.mark.parametrize("kernel", ["cosine", "linear", "rbf"])
def test_the_estimate_is_exact_where_its_landmarks_are_all_rows(kernel) -> None:  # type: ignore[no-untyped-def]
    x = rows(30, 40, 0)
    exact, low_rank = spectrum(x, kernel), spectrum(x, kernel, limit=1, landmarks_RD=x)
    assert (low_rank.method, exact.explained) == ("low-rank", 1.0)
    assert low_rank.explained == pytest.approx(1, rel=1e-9)
    assert vendi(low_rank) == pytest.approx(vendi(exact), rel=1e-7)


def test_the_estimate_is_below_the_score_and_says_how_much_it_explains() -> None:
    x = rows(200, 50, 0)
    found = [spectrum(x, limit=1, landmarks_RD=x[:rank]) for rank in (10, 30, 49)]
    assert [len(one.lam_R) for one in found] == [10, 30, 49]
    shares, scores = [one.explained for one in found], [vendi(one) for one in found]
    assert shares == sorted(shares)
    assert scores == sorted(scores)
    assert scores[-1] < vendi(spectrum(x))
    assert 0.1 < shares[0] < shares[-1] < 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("kernel", "width"), [("cosine", 5), ("cosine", 40), ("linear", 5), ("rbf", 5)])
def test_the_deviation_is_that_of_weighting_rows(kernel, width: int, order: float) -> None:  # type: ignore[no-untyped-def]
    """The derivative of ln VS by each row's weight, by finite differences of the weighted kernel."""
    x, step = rows(25, width, 0) + 0.5, 1e-6
    unit = torch.nn.functional.normalize(x.double())
    K = {
        "cosine": unit @ unit.T,
        "linear": (x @ x.T).double(),
        "rbf": (-(torch.cdist(x, x).double() ** 2) / 200).exp(),
    }

    def log_score(weight_N: Tensor) -> float:
        weighted = K[kernel] * torch.outer(weight_N, weight_N).sqrt()
        lam = torch.linalg.eigvalsh(weighted / weighted.trace())
        return math.log(vendi(Spectrum(lam[lam > 1e-15], "primal"), order))

    ones = torch.ones(25, dtype=torch.float64)
    slopes = [
        (log_score(ones + step * e) - log_score(ones - step * e)) / (2 * step) for e in torch.eye(25).double()
    ]
    expected = torch.tensor(slopes).square().sum().sqrt()  # influences are 25 slopes; sqrt(mean / 25)
    assert log_deviation(spectrum(x, kernel, vectors=True), order) == pytest.approx(float(expected), rel=1e-3)


def test_the_deviation_is_the_spread_over_samples() -> None:
    scale = torch.linspace(0.2, 2, 8)
    found = [spectrum(rows(200, 8, s) * scale, vectors=True) for s in range(80)]
    spread = torch.tensor([math.log(vendi(one)) for one in found]).double().std()
    mean = sum(log_deviation(one) for one in found) / 80
    assert 0.8 * spread < mean < 1.25 * spread


def test_a_row_of_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of zeros has no direction"):
        spectrum(torch.cat([rows(9, 3, 0), torch.zeros(1, 3)]))


def test_an_order_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        vendi(spectrum(rows(9, 3, 0)), 0.0)


@pytest.mark.parametrize("width", [1, 255, 256, 700])
def test_symmetric_products_equal_general_ones(width: int) -> None:
    x = rows(20, width, 0).double()
    torch.testing.assert_close(gram(x), x.T @ x, rtol=1e-13, atol=1e-12)
    L, S = rows(width, width, 1).double().tril(), rows(width, width, 2).double()
    S = S + S.T
    torch.testing.assert_close(congruence(L, S), L.T @ S @ L, rtol=1e-11, atol=1e-10)
