"""Authenticity and C_T: golden data, closed forms, and what they say of copies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genplug_metrics.memorisation import (
    Cells,
    authentic,
    c_t,
    kmeans,
    kmeans_cells,
    mann_whitney_z,
    z_u,
)


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def sets(golden: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return golden["in/real"], golden["in/test"], golden["in/fake"]


def test_authpct_equals_the_golden_one(golden: dict[str, Tensor]) -> None:
    percent = 100 * authentic(golden["in/real"], golden["in/fake"]).double().mean()
    assert float(percent) == pytest.approx(float(golden["out/authpct"]), abs=1e-9)


def test_c_t_equals_the_golden_one(golden: dict[str, Tensor]) -> None:
    cells = Cells(*(golden[f"in/ct_cells_{name}"] for name in ("train", "test", "fake")))
    found = c_t(*sets(golden), cells)
    assert found.value == pytest.approx(float(golden["out/ct"]), rel=1e-9)
    torch.testing.assert_close(found.z_C, golden["out/ct_zu_cells"], rtol=1e-9, atol=0)
    assert z_u(*sets(golden)) == pytest.approx(float(golden["out/zu_global"]), rel=1e-9)


def test_a_copy_is_not_authentic_and_a_stranger_is() -> None:
    train = torch.tensor([[0.0], [1.0], [5.0]])
    fake = torch.tensor([[0.0], [0.9], [1.0], [3.1], [10.0], [2.0]])
    # the last is as far from 1.0 as 0.0 is: a tie is not authentic
    assert authentic(train, fake).tolist() == [False, False, False, False, True, False]


def test_z_counts_pairs_and_halves_ties() -> None:
    fake, test = torch.tensor([1.0, 2, 3]).double(), torch.tensor([2.0, 2, 0]).double()
    pairs = sum((a > b) + (a == b) / 2 for a in fake.tolist() for b in test.tolist())
    expected = (pairs - 4.5 + 0.5) / math.sqrt(9 * 7 / 12)
    assert mann_whitney_z(fake, test) == pytest.approx(expected)


def test_copies_give_a_low_c_t_and_noise_a_high_one() -> None:
    train, test = rows(300, 4, 0), rows(200, 4, 1)
    values = []
    for fake in (train[:200] + 1e-3, rows(200, 4, 2), 2 * rows(200, 4, 3)):
        values.append(c_t(train, test, fake, kmeans_cells(train, test, fake, 3)).value)
    assert values[0] < -5 < values[1] < 2 < 3 < values[2]


def test_cells_with_few_generated_rows_do_not_count() -> None:
    train, test, fake = rows(90, 2, 0), rows(60, 2, 1), rows(50, 2, 2)
    labels = Cells(torch.arange(90) % 3, torch.arange(60) % 2, torch.tensor([0] * 19 + [1] * 20 + [2] * 11))
    found = c_t(train, test, fake, labels)
    assert found.weight_C.tolist() == [0, 0.5, 0]
    assert found.value == float(found.z_C[1])
    assert math.isnan(
        c_t(train, test, fake[:10], Cells(labels.train_N, labels.test_n, labels.fake_M[:10])).value
    )


def test_kmeans_finds_separate_clusters_and_repeats_itself() -> None:
    centres = torch.tensor([[0.0, 0], [50, 0], [0, 50]])
    data = (centres[:, None] + rows(40, 2, 0)).flatten(0, 1)
    found = kmeans(data, 3, seed=1)
    assert torch.cdist(centres.double(), found).amin(1).max() < 1
    assert torch.equal(found, kmeans(data, 3, seed=1))


def test_equal_rows_are_one_cell() -> None:
    same = torch.ones(30, 2)
    assert kmeans(same, 5).shape == (1, 2)
