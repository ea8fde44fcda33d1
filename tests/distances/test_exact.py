"""Exact neighbours: golden data, brute force, ties, and independence of blocks and order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from genplug_distances import faiss_backend
from genplug_distances.bounds import as_points, block_rows, lower_bounds, make_frame, squared_pairs
from genplug_distances.exact import Cosine, Euclidean

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics_a.safetensors"
DISTANCES = {"euclidean": Euclidean, "cosine": Cosine}
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


def test_self_search_may_include_the_row_itself() -> None:
    d, i = Euclidean().index(rows(20, 3, 0)).search_self(1, exclude_self=False)
    assert torch.equal(i[:, 0], torch.arange(20))
    assert not d.any()


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


@pytest.mark.parametrize("width", [1, 24, 1024, 3000])
def test_the_bounds_hold_the_true_distance(width: int) -> None:
    x, y = rows(40, width, 0) + 3, rows(30, width, 1) * torch.logspace(-3, 3, 30)[:, None] + 3
    a, b = as_points(x), as_points(y)
    frame = make_frame(a, b)
    p, q = frame.narrow(a, slice(None)), frame.narrow(b, slice(None))
    low = lower_bounds(p, q).double()
    i, j = torch.ones(40, 30).nonzero(as_tuple=True)
    e = squared_pairs(a, i, b, j).view(40, 30) * frame.scale**2
    slack = 2 * p.eta * (p.norm_N[:, None] + q.norm_N)
    assert torch.all(low <= e)
    assert torch.all(e <= low + slack * 1.001)


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


@pytest.mark.parametrize("name", DISTANCES)
def test_pairwise_is_differentiable(name: str) -> None:
    a, b = rows(4, 3, 0).double().requires_grad_(), rows(5, 3, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(DISTANCES[name]().pairwise, (a, b))


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


def test_blocks_respect_the_byte_budget() -> None:
    for width in (3, 2048, 200_000):
        b = block_rows(width, 2**28)
        assert b == 1 or 4 * b * b + 8 * b * width <= 2**28


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


def test_missing_faiss_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ImportError, RuntimeError):

        def broken(error: type[Exception] = error) -> None:
            raise error

        monkeypatch.setattr(faiss_backend, "_faiss", broken)
        assert not faiss_backend.available()


@pytest.mark.parametrize("name", DISTANCES)
def test_faiss_finds_the_golden_neighbours(golden: dict[str, Tensor], name: str) -> None:
    pytest.importorskip("faiss", reason="needs faiss")
    index = faiss_backend.FaissBackend(DISTANCES[name]()).index(golden["in/real"])
    assert torch.equal(index.search(golden["in/fake"], 5)[1], golden[f"out/knn_{name}_idx"])
