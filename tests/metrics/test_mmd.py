"""Kernel distance: golden data, naive sums, blocks, its variance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genplug_metrics import mmd as module
from genplug_metrics.mmd import KID, Energy, Gaussian, Polynomial, draw_subsets, mmd, subset_mmd


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_whole_sets_equal_the_golden_values(golden: dict[str, Tensor]) -> None:
    found = mmd(golden["in/real"], golden["in/fake"])
    assert found.unbiased == pytest.approx(golden["out/kid_full_unbiased"].item(), rel=1e-12)
    assert found.biased == pytest.approx(golden["out/kid_full_biased"].item(), rel=1e-12)


def test_subsets_equal_the_golden_values(golden: dict[str, Tensor]) -> None:
    found = subset_mmd(
        golden["in/real"], golden["in/fake"], golden["in/kid_idx_real"], golden["in/kid_idx_fake"]
    )
    torch.testing.assert_close(found.values_S, golden["out/kid_subsets"], rtol=1e-12, atol=0)
    assert found.mean == pytest.approx(golden["out/kid_subset_mean"].item(), rel=1e-12)
    assert found.std == pytest.approx(golden["out/kid_subset_std"].item(), rel=1e-12)


@pytest.mark.parametrize(
    ("kernel", "plain"),
    [
        (Polynomial(2, 0.5, 3.0), lambda a, b: (0.5 * (a * b).sum() + 3) ** 2),
        (Gaussian(1.5), lambda a, b: (-(a - b).square().sum() / 4.5).exp()),
        (Energy(), lambda a, b: -(a - b).norm()),
    ],
)
def test_both_forms_equal_naive_sums_in_any_blocks(kernel, plain, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * 4 * 4)  # 4 x 4 pairs at a time
    x, y = rows(11, 3, 0).double(), rows(7, 3, 1).double() + 0.5
    xx, yy, xy = (
        torch.stack([torch.stack([plain(a, b) for b in right]) for a in left])
        for left, right in ((x, x), (y, y), (x, y))
    )
    found = mmd(x, y, kernel)
    assert found.biased == pytest.approx(float(xx.mean() + yy.mean() - 2 * xy.mean()), rel=1e-12)
    inner = (xx.sum() - xx.trace()) / (11 * 10) + (yy.sum() - yy.trace()) / (7 * 6)
    assert found.unbiased == pytest.approx(float(inner - 2 * xy.mean()), rel=1e-12)


def test_the_distance_of_a_set_to_itself_is_zero_or_below() -> None:
    found = mmd(rows(30, 4, 0), rows(30, 4, 0))
    assert found.biased == pytest.approx(0, abs=1e-12)
    assert found.unbiased < 0  # it expects another sample of the same distribution


def test_the_variance_is_that_of_leaving_out_each_row() -> None:
    x, y = rows(12, 3, 0), rows(9, 3, 1)
    left_x = torch.tensor([mmd(x[torch.arange(12) != i], y).unbiased for i in range(12)], dtype=torch.float64)
    left_y = torch.tensor([mmd(x, y[torch.arange(9) != j]).unbiased for j in range(9)], dtype=torch.float64)
    expected = (11 * float(left_x.var(correction=0)), 8 * float(left_y.var(correction=0)))
    assert mmd(x, y).variances == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_variance_covers_the_spread_over_samples(shift: float) -> None:
    """Efron and Stein: never too small on average; near the truth where the distributions differ."""
    found = [mmd(rows(60, 4, 2 * s), rows(50, 4, 2 * s + 1) + shift) for s in range(200)]
    spread = torch.tensor([one.unbiased for one in found]).double().std()
    estimate = (sum(sum(one.variances) for one in found) / 200) ** 0.5
    assert 0.93 * spread <= estimate <= (2.2 if shift == 0 else 1.25) * spread


def test_the_variance_of_subsets_covers_the_spread_over_samples() -> None:
    g, values, estimates = torch.Generator().manual_seed(0), [], []
    for s in range(100):
        x, y = rows(90, 4, 2 * s), rows(70, 4, 2 * s + 1) + 0.5
        rows_x, rows_y = (draw_subsets(n, 30, 10, g) for n in (90, 70))
        found = subset_mmd(x, y, rows_x, rows_y)
        values.append(found.mean)
        estimates.append(found.variance(90, 70, 30))
    spread = float(torch.tensor(values).double().std())
    assert 0.9 * spread <= (sum(estimates) / 100) ** 0.5 <= 1.4 * spread


def test_subsets_hold_each_row_once_and_repeat_with_the_seed() -> None:
    first, again = (draw_subsets(20, 8, 5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert all(len(set(one.tolist())) == 8 for one in first)


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rows a side, not 1 and 5"):
        mmd(rows(1, 2, 0), rows(5, 2, 1))


def test_the_kernel_of_kid_is_named_as_published() -> None:
    assert str(KID) == "(1/D x.y + 1)^3"


def test_the_energy_distance_of_shifted_normals_is_the_closed_form() -> None:
    """E|z + d| = 2 s phi(d / s) + d (2 Phi(d / s) - 1) for z normal with variance s^2 = 2."""
    shift, s = 0.7, 2**0.5
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(4000, 1, generator=g), torch.randn(4000, 1, generator=g) + shift
    normal = torch.distributions.Normal(0.0, 1.0)
    t = torch.tensor(shift / s)
    apart = 2 * s * float(normal.log_prob(t).exp()) + shift * (2 * float(normal.cdf(t)) - 1)
    expected = 2 * apart - 2 * 2 * s * float(normal.log_prob(torch.tensor(0.0)).exp())
    found = mmd(x, y, Energy())
    assert abs(found.unbiased - expected) < 4 * sum(found.variances) ** 0.5
    same = mmd(x, torch.randn(4000, 1, generator=g), Energy())
    assert abs(same.unbiased) < 4 * sum(same.variances) ** 0.5 + 1e-3
