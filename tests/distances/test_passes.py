"""Whichever arithmetic finds the candidates, however blocks are cut: the same neighbours to the last bit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genplug_distances import blocks, product, search
from genplug_distances.balls import Counts, Membership, membership
from genplug_distances.blocks import Groups, Sizes, choose_frame, products
from genplug_distances.points import Points, as_points, squared_pairs
from genplug_distances.product import BFLOAT16, FLOAT32, Arithmetic, make_frame
from genplug_distances.search import nearest, nearest_self

PASSES = ["float32", "bfloat16"]


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def lattice(n: int, seed: int) -> Tensor:
    return torch.randint(0, 3, (n, 5), generator=torch.Generator().manual_seed(seed)).float()


def clusters(n: int, seed: int) -> Tensor:
    """Tight clusters far from the origin and from each other."""
    centres = 1e3 * rows(4, 40, 9) + 1e4
    return centres[torch.arange(n) % 4] + 1e-3 * rows(n, 40, seed)


def heavy_tails(n: int, seed: int) -> Tensor:
    x = rows(n, 30, seed)
    return x / rows(n, 1, seed + 100).abs().clamp_min(1e-4)


HARD = {
    "gaussian": lambda n, s: rows(n, 64, s),
    "ties and duplicates": lattice,
    "one point": lambda n, s: torch.full((n, 7), 3.3),
    "clusters far away": clusters,
    "heavy tails": heavy_tails,
    "tiny": lambda n, s: rows(n, 20, s).double() * 1e-150,
    "huge": lambda n, s: rows(n, 20, s) * 1e37,
    "subnormal": lambda n, s: rows(n, 20, s) * 1e-40,
    "one wide row": lambda n, s: torch.cat([rows(n - 1, 20, s), torch.full((1, 20), 1e30)]),
    "float64 differences": lambda n, s: 1 + 1e-12 * rows(n, 20, s).double(),
    "half": lambda n, s: rows(n, 33, s).half(),
    "integers": lambda n, s: lattice(n, s).to(torch.int16),
}


def brute_force(a: Points, b: Points, k: int, own: bool = False) -> tuple[Tensor, Tensor]:
    i_P, j_P = torch.ones(len(a), len(b)).nonzero(as_tuple=True)
    e_NM = squared_pairs(a, i_P, b, j_P).view(len(a), len(b))
    if own:
        e_NM.fill_diagonal_(math.inf)
    order = e_NM.argsort(dim=1, stable=True)[:, :k]
    return e_NM.gather(1, order), order


def same(found: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(found[0], true[0]) and torch.equal(found[1], true[1])


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("data", HARD)
def test_every_pass_finds_what_brute_force_finds(data: str, unit: bool) -> None:
    x, y = (as_points(HARD[data](n, seed) + (unit and data in ("ties and duplicates", "integers")), unit)
            for n, seed in ((130, 0), (90, 1)))  # fmt: skip
    for k in (1, 5, 89):
        true, own = brute_force(x, y, k), brute_force(y, y, k, own=True)
        for precision in PASSES:
            for block_bytes in (2**28, 2**14):
                assert same(nearest(x, y, k, None, block_bytes, precision), true)
                assert same(nearest_self(y, k, block_bytes, precision), own)


@pytest.mark.parametrize("precision", PASSES)
def test_a_share_of_the_rows_finds_what_all_find(precision: str) -> None:
    x = as_points(lattice(100, 3))
    whole = nearest_self(x, 4, 2**13, precision)
    share = nearest(x.take(slice(30, 71)), x, 4, 30, 2**13, precision)
    assert same(share, (whole[0][30:71], whole[1][30:71]))


def test_candidates_may_be_measured_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x = as_points(clusters(200, 0))
    true = nearest_self(x, 6)
    monkeypatch.setattr(search, "MANY", 50)
    assert same(nearest_self(x, 6, 2**16), true)


def counts_by_brute_force(x: Points, r_NK: Tensor, y: Points, s_MK: Tensor) -> Membership:
    i_P, j_P = torch.ones(len(x), len(y)).nonzero(as_tuple=True)
    e_NM1 = squared_pairs(x, i_P, y, j_P).view(len(x), len(y), 1)
    by_x, by_y = (e_NM1 < r_NK[:, None], e_NM1 <= r_NK[:, None]), (e_NM1 < s_MK, e_NM1 <= s_MK)
    of_x = [Counts(mask.sum(1), mask.sum(0)) for mask in by_x]
    return Membership(*of_x, *(Counts(mask.sum(0), mask.sum(1)) for mask in by_y))


@pytest.mark.parametrize("data", HARD)
def test_every_pass_counts_what_brute_force_counts(data: str) -> None:
    x, y = as_points(HARD[data](110, 0)), as_points(HARD[data](90, 1))
    radii = [nearest_self(p, 80)[0][:, [0, 4, 79]] for p in (x, y)]
    true = counts_by_brute_force(x, radii[0], y, radii[1])
    for precision in PASSES:
        for block_bytes in (2**28, 2**14):
            found = membership(x, radii[0], y, radii[1], block_bytes, precision)
            for name in ("x_open", "x_closed", "y_open", "y_closed"):
                assert torch.equal(getattr(found, name).of_balls, getattr(true, name).of_balls)
                assert torch.equal(getattr(found, name).of_points, getattr(true, name).of_points)


@pytest.mark.parametrize("width", [1, 24, 1024, 3000])
@pytest.mark.parametrize("arithmetic", [FLOAT32, BFLOAT16], ids=lambda a: a.name)
def test_the_bounds_hold_the_true_distance(width: int, arithmetic: Arithmetic) -> None:
    x = as_points(rows(40, width, 0) + 3)
    y = as_points(rows(30, width, 1) * torch.logspace(-3, 3, 30)[:, None] + 3)
    frame = make_frame(x, y)
    i_P, j_P = torch.ones(40, 30).nonzero(as_tuple=True)
    d_P = squared_pairs(x, i_P, y, j_P).sqrt() * frame.scale
    for T in (0.0, float(d_P.square().median())):
        chosen = product.replace(frame, arithmetic=arithmetic, T=T)
        block = next(products(x, y, chosen, Sizes(64, 64)))
        low_P, high_P = block.bounds(i_P, j_P)
        assert bool((low_P <= d_P).all())
        assert bool((d_P <= high_P).all())
        least_N = block.least(d_P.view(40, 30).amin(1))
        assert bool((block.s_IJ.amax(1) >= least_N).all())


@pytest.mark.parametrize(("arithmetic", "width"), [(FLOAT32, 0.001), (BFLOAT16, 0.012)], ids=PASSES)
def test_the_bounds_are_narrow_where_decisions_fall(arithmetic: Arithmetic, width: float) -> None:
    x = as_points(rows(60, 2048, 0))
    chosen = product.replace(make_frame(x, x), arithmetic=arithmetic)
    chosen = product.replace(chosen, T=2 * 2048 * chosen.scale**2)
    i_P, j_P = torch.triu_indices(60, 60, 1)
    low_P, high_P = next(products(x, x, chosen, Sizes(64, 64))).bounds(i_P, j_P)
    assert float((high_P / low_P).max()) < 1 + width


def test_bfloat16_is_chosen_where_it_saves_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "bfloat16_pays", lambda: True)

    def chosen(x: Tensor) -> str:
        return choose_frame(as_points(x), as_points(x), 5, "auto").arithmetic.name

    spread = rows(3000, 300, 0) * torch.logspace(0, -2, 300)
    assert chosen(spread) == "bfloat16"
    assert chosen(spread[:, :100]) == "float32"  # narrow rows
    assert chosen(torch.ones(3000, 300) + 1e-3 * rows(3000, 300, 1) / 1e3) in PASSES
    assert chosen(1e3 * rows(10, 300, 2).repeat(300, 1) + 1e-2 * rows(3000, 300, 3)) == "float32"  # tight
    monkeypatch.setattr(blocks, "bfloat16_pays", lambda: False)
    assert chosen(spread) == "float32"


def test_a_product_with_narrow_sums_or_operands_is_not_trusted() -> None:
    def short_sums(a: Tensor, b: Tensor) -> Tensor:
        parts = (p.double() @ q.double().T for p, q in zip(a.split(512, 1), b.split(512, 1), strict=True))
        total = next(parts).bfloat16()
        for part in parts:
            total = total + part.bfloat16()
        return total

    assert not product._is_true(short_sums, BFLOAT16)
    assert not product._is_true(lambda a, b: a.bfloat16().float() @ b.bfloat16().float().T, FLOAT32)
    assert product._is_true(lambda a, b: a @ b.T, FLOAT32)


@pytest.mark.parametrize("group", [1, 4, 32])
def test_groups_find_every_element_above_the_threshold(group: int) -> None:
    s, least = rows(30, 77, 0), rows(30, 1, 1)[:, 0]
    for matrix, bound in ((s, least), (s.T, rows(77, 1, 2)[:, 0])):
        i, j = Groups.of(matrix, group).at_least(bound)
        found = torch.zeros(matrix.shape, dtype=torch.bool)
        found[i, j] = True
        assert torch.equal(found, matrix >= bound[:, None])
        assert len(i) == int(found.sum())


def test_blocks_respect_the_byte_budget() -> None:
    for width in (3, 2048, 200_000):
        sizes, K = Sizes.of(width, 2**28), FLOAT32.width(width)
        assert sizes.side == 1 or 4 * sizes.side * (2 * sizes.side + K) <= 2**27
        assert sizes.held == sizes.side or 4 * sizes.held * K <= 2**27
