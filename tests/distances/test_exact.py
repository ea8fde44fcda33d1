"""Exact neighbours: golden data, brute force, ties, and independence of blocks and order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from genplug.errors import DataError
from genplug_distances.exact import Cosine, Euclidean, Perceptual, Squared

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics_a.safetensors"
DISTANCES = {"euclidean": Euclidean, "cosine": Cosine}
SMOOTH = {**DISTANCES, "squared": Squared, "perceptual": Perceptual}
BLOCKS = [2**28, 2**13, 2**11]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def lattice(n: int, width: int, seed: int) -> Tensor:
    """Integer rows with many duplicates and ties; no row of zeros."""
    return torch.randint(1, 4, (n, width), generator=torch.Generator().manual_seed(seed)).float()


def brute_force(
    distance: Euclidean, a: Tensor, b: Tensor, k: int, own: bool = False
) -> tuple[Tensor, Tensor]:
    a, b = a.double(), b.double()
    if distance.unit:
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    e = (a[:, None] - b[None]).square().sum(-1)
    if own:
        e.fill_diagonal_(torch.inf)
    order = e.argsort(dim=1, stable=True)[:, :k]
    return distance.from_squared(e.gather(1, order)), order


@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize("name", DISTANCES)
def test_indices_equal_the_golden_ones_for_every_block_size(
    golden: dict[str, Tensor], name: str, block_bytes: int
) -> None:
    d, i = DISTANCES[name](block_bytes).index(golden["in/real"]).search(golden["in/fake"], 5)
    assert torch.equal(i, golden[f"out/knn_{name}_idx"])
    torch.testing.assert_close(d, golden[f"out/knn_{name}_dist"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize("name", DISTANCES)
def test_ties_go_to_the_lowest_index(name: str, block_bytes: int) -> None:
    distance = DISTANCES[name](block_bytes)
    corpus, queries = lattice(120, 3, 0), lattice(40, 3, 1)
    d, i = distance.index(corpus).search(queries, 7)
    d_true, i_true = brute_force(distance, queries, corpus, 7)
    assert torch.equal(i, i_true)
    torch.testing.assert_close(d, d_true, rtol=1e-12, atol=1e-15)


def test_rows_that_float32_cannot_tell_apart_are_ordered_exactly() -> None:
    base = rows(1, 8, 0).double()
    step = torch.linspace(1, 2, 300).double().flip(0)[:, None] * 1e-9
    d, i = Euclidean().index(base + step).search(base, 5)
    assert i.tolist() == [[299, 298, 297, 296, 295]]
    assert torch.all(d.diff() > 0)


def test_one_huge_row_does_not_spoil_the_others() -> None:
    corpus, queries = rows(200, 16, 0), rows(50, 16, 1)
    corpus[7] = 1e15
    assert torch.equal(
        Euclidean().index(corpus).search(queries, 4)[1], brute_force(Euclidean(), queries, corpus, 4)[1]
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_neighbours_do_not_depend_on_the_unit(scale: float) -> None:
    corpus, queries = rows(100, 8, 0).double(), rows(30, 8, 1).double()
    expected = Euclidean().index(corpus).search(queries, 3)[1]
    assert torch.equal(Euclidean().index(corpus * scale).search(queries * scale, 3)[1], expected)


@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize("make", [rows, lattice])
@pytest.mark.parametrize("name", DISTANCES)
def test_self_search_leaves_out_the_row_itself_and_only_it(name: str, make: object, block_bytes: int) -> None:
    distance, x = DISTANCES[name](block_bytes), make(90, 3, 2)  # type: ignore[operator]
    d, i = distance.index(x).search_self(4)
    d_true, i_true = brute_force(distance, x, x, 4, own=True)
    assert torch.equal(i, i_true)
    torch.testing.assert_close(d, d_true, rtol=1e-12, atol=1e-15)


def test_permuting_the_corpus_permutes_the_answer() -> None:
    corpus, queries = rows(150, 40, 0), rows(30, 40, 1)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(2))
    d, i = Euclidean().index(corpus).search(queries, 6)
    d_moved, i_moved = Euclidean().index(corpus[order]).search(queries, 6)
    assert torch.equal(d, d_moved)
    assert torch.equal(i, order[i_moved])


def test_the_inputs_are_left_alone() -> None:
    x, y = rows(30, 4, 0).double(), rows(20, 4, 1).double()
    x_before, y_before = x.clone(), y.clone()
    for distance in (Euclidean(), Cosine()):
        distance.index(x).search(y, 3)
        distance.index(x).search_self(3)
        distance.pairwise(x, y)
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)


def test_blocks_of_a_single_row_give_the_same() -> None:
    x, y = rows(11, 3, 0), rows(7, 3, 1)
    assert torch.equal(Euclidean(1).index(x).search(y, 2)[1], Euclidean().index(x).search(y, 2)[1])
    assert torch.equal(Euclidean(1).index(x).search_self(2)[1], Euclidean().index(x).search_self(2)[1])


def test_all_rows_can_be_asked_for() -> None:
    corpus, queries = rows(12, 3, 0), rows(5, 3, 1)
    assert torch.equal(
        Euclidean().index(corpus).search(queries, 12)[1], brute_force(Euclidean(), queries, corpus, 12)[1]
    )
    assert Euclidean().index(corpus).search_self(11)[1].shape == (12, 11)


def test_half_precision_features_are_measured_exactly() -> None:
    corpus, queries = rows(60, 5, 0).half(), rows(20, 5, 1).half()
    assert torch.equal(
        Euclidean().index(corpus).search(queries, 3)[1], brute_force(Euclidean(), queries, corpus, 3)[1]
    )


@pytest.mark.parametrize("name", DISTANCES)
def test_pairwise_equals_differences(name: str) -> None:
    distance = DISTANCES[name](2**13)
    a, b = rows(30, 6, 0) + 10, rows(20, 6, 1) + 10
    b[3] = a[5]
    d = distance.pairwise(a, b)
    d_true, order = brute_force(distance, a, b, 20)
    torch.testing.assert_close(d.gather(1, order), d_true, rtol=1e-10, atol=0)
    assert d[5, 3] == 0


@pytest.mark.parametrize("name", SMOOTH)
def test_pairwise_is_differentiable(name: str) -> None:
    a, b = rows(4, 6, 0).double().requires_grad_(), rows(5, 6, 1).double().requires_grad_()
    distance = Perceptual(channels=3) if name == "perceptual" else SMOOTH[name]()
    assert torch.autograd.gradcheck(distance.pairwise, (a, b))


def test_the_gradient_between_equal_rows_is_zero() -> None:
    a = rows(3, 4, 0).double().requires_grad_()
    Euclidean().pairwise(a, a.detach()).diagonal().sum().backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None
    assert not a.grad.any()


def test_the_matmul_setting_of_the_caller_survives() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        Euclidean().index(rows(10, 3, 0)).search(rows(5, 3, 1), 2)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.tensor([[1.0, torch.nan]]), "NaN"),
        (torch.tensor([[1.0, torch.inf]]), "infinity"),
        (torch.zeros(3), "N x D"),
        (torch.zeros(0, 3), "N x D"),
    ],
)
def test_unusable_features_are_refused(bad: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Euclidean().index(bad)


def test_cosine_refuses_a_row_of_zeros() -> None:
    with pytest.raises(ValueError, match="row of zeros"):
        Cosine().index(torch.zeros(2, 3))


def test_too_many_neighbours_are_refused() -> None:
    index = Euclidean().index(rows(4, 2, 0))
    with pytest.raises(ValueError, match="k=5"):
        index.search(rows(2, 2, 1), 5)
    with pytest.raises(ValueError, match="k=4"):
        index.search_self(4)


def test_the_perceptual_distance_compares_directions_of_channels_at_each_position() -> None:
    a, b = rows(6, 3 * 10, 0), rows(5, 3 * 10, 1)
    b[2, 4::10] = 0  # one position without activation
    expected = torch.zeros(6, 5, dtype=torch.float64)
    for p in range(10):
        u, v = (torch.nn.functional.normalize(x[:, p::10].double()) for x in (a, b))
        expected += (u[:, None] - v).square().sum(-1) / 10
    distance = Perceptual(channels=3)
    torch.testing.assert_close(distance.pairwise(a, b), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(distance.pairwise(5 * a, b), expected, rtol=1e-6, atol=0)
    d, i = distance.index(b).search(a, 2)
    torch.testing.assert_close(d, expected.sort(dim=1).values[:, :2], rtol=1e-6, atol=0)
    assert torch.equal(i, expected.argsort(dim=1)[:, :2])


def test_the_perceptual_distance_refuses_other_widths() -> None:
    with pytest.raises(DataError, match="4 channels do not fit into rows"):
        Perceptual(channels=4).index(rows(3, 10, 0))
