"""Precision, recall, density, coverage: golden data, brute force, conventions, blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genplug_distances.exact import Cosine, Euclidean
from genplug_metrics.prdc import Convention, Prdc, expected_coverage, prdc, radii, realism

KS = (1, 3, 5)


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def four(score: Prdc) -> list[float]:
    return [score.precision, score.recall, score.density, score.coverage]


def brute_force(x: Tensor, y: Tensor, k: int, strict: bool) -> list[float]:
    def distances(a: Tensor, b: Tensor) -> Tensor:
        return (a.double()[:, None] - b.double()).square().sum(-1)

    def ball(a: Tensor) -> Tensor:
        return distances(a, a).fill_diagonal_(torch.inf).sort(dim=1).values[:, k - 1]

    d, r, s = distances(x, y), ball(x)[:, None], ball(y)
    in_real, in_fake = (d < r, d < s) if strict else (d <= r, d <= s)
    return [
        in_real.any(0).double().mean().item(),
        in_fake.any(1).double().mean().item(),
        in_real.double().sum().item() / (k * len(y)),
        in_real.any(1).double().mean().item(),
    ]


@pytest.mark.parametrize("block_bytes", [2**28, 2**14])
@pytest.mark.parametrize(
    ("prefix", "convention", "key"),
    [
        ("", "<", "prdc"),
        ("", "<=", "improved_pr"),
        ("", "published", "improved_pr"),
        ("ties_", "<", "ties_prdc"),
        ("ties_", "<=", "ties_prdc_le"),
    ],
)
def test_scores_equal_the_golden_ones(
    golden: dict[str, Tensor], prefix: str, convention: Convention, key: str, block_bytes: int
) -> None:
    real, fake = golden[f"in/{prefix}real"], golden[f"in/{prefix}fake"]
    for k, score in prdc(real, fake, KS, convention=convention, distance=Euclidean(block_bytes)).items():
        expected = golden[f"out/{key}_k{k}"].tolist()
        assert four(score)[: len(expected)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["real", "fake"])
def test_radii_equal_the_golden_ones(golden: dict[str, Tensor], name: str) -> None:
    r_NK = radii(golden[f"in/{name}"], KS)
    for c, k in enumerate(KS):
        torch.testing.assert_close(r_NK[:, c], golden[f"out/radius_{name}_k{k}"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("k", KS)
def test_realism_equals_the_golden_one(golden: dict[str, Tensor], k: int) -> None:
    got = realism(golden["in/real"], golden["in/fake"], k, rows=77)
    torch.testing.assert_close(got, golden[f"out/realism_k{k}"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("convention", ["<", "<="])
@pytest.mark.parametrize("levels", [2, 4])
def test_duplicates_and_ties_equal_brute_force(convention: Convention, levels: int) -> None:
    g = torch.Generator().manual_seed(levels)
    x, y = (torch.randint(levels, (n, 3), generator=g).float() / 3 for n in (70, 50))
    for k, score in prdc(x, y, (1, 2, 9), convention=convention, distance=Euclidean(2**12)).items():
        assert four(score) == pytest.approx(brute_force(x, y, k, convention == "<"), abs=1e-12)


def test_equal_sets_are_wholly_inside_closed_balls() -> None:
    x = rows(50, 4, 0)
    score = prdc(x, x, (3,), convention="<=")[3]
    assert (score.precision, score.recall, score.coverage) == (1, 1, 1)
    assert score.density == pytest.approx(4 / 3)  # each row is in its own ball and in three others on average


def test_distant_sets_score_zero() -> None:
    assert four(prdc(rows(30, 4, 0), rows(20, 4, 1) + 100)[5]) == [0, 0, 0, 0]


def test_a_ball_excludes_its_own_centre() -> None:
    x = torch.tensor([[0.0], [1], [3]])
    assert radii(x, [1, 2]).tolist() == [[1, 3], [1, 2], [2, 3]]


def test_row_order_does_not_matter() -> None:
    x, y, order = (
        rows(80, 5, 0),
        rows(60, 5, 1),
        torch.randperm(60, generator=torch.Generator().manual_seed(3)),
    )
    before, after = prdc(x, y)[5], prdc(x, y[order])[5]
    assert torch.equal(before.hits_M[order], after.hits_M)
    assert four(before) == four(after)


def test_scores_do_not_depend_on_the_unit_or_the_origin() -> None:
    x, y = rows(80, 5, 0).double(), rows(60, 5, 1).double()
    for scale, shift in ((1e-20, 0.0), (1e12, 0.0), (1.0, 1e3)):
        assert four(prdc(x * scale + shift, y * scale + shift)[5]) == four(prdc(x, y)[5])


def test_the_inputs_are_left_alone() -> None:
    x, y = rows(30, 4, 0).double(), rows(20, 4, 1).double()
    x_before, y_before = x.clone(), y.clone()
    prdc(x, y)
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)


def test_cosine_balls_ignore_the_length_of_rows() -> None:
    x, y = rows(60, 5, 0), rows(40, 5, 1)
    length = torch.rand(40, 1, generator=torch.Generator().manual_seed(2)).mul(8).exp2().round()
    length = 2.0 ** length.log2().round()
    assert four(prdc(x, y * length, distance=Cosine())[5]) == four(prdc(x, y, distance=Cosine())[5])


def test_expected_coverage_matches_simulation() -> None:
    scores = [prdc(rows(40, 2, 2 * s), rows(30, 2, 2 * s + 1), (2,))[2].coverage for s in range(150)]
    assert sum(scores) / 150 == pytest.approx(expected_coverage(40, 30, 2), abs=0.02)


def test_expected_coverage_of_equal_counts_tends_to_one_minus_two_to_minus_k() -> None:
    assert expected_coverage(10**6, 10**6, 5) == pytest.approx(1 - 2**-5, abs=1e-5)


def test_more_neighbours_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="k=5"):
        prdc(rows(5, 2, 0), rows(20, 2, 1))
