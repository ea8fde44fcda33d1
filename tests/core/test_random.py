"""Randomness: Philox's known answers, independent streams, the same numbers for any batch."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from genplug.errors import ConfigError
from genplug.random import MAX_RUN_SEED, PURPOSES, NoiseSource, philox, seed_range

SEEDS = torch.tensor([0, 1, 7, 2**40 + 3])


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        (0, ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]),
        (0xFFFFFFFF, ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]),
    ],
)
def test_philox_gives_the_published_words(word: int, answer: list[str]) -> None:
    words = [torch.tensor([word])] * 6
    assert [f"{int(value):08x}" for value in philox(words[:4], words[4:])] == answer


@pytest.mark.parametrize("draw", ["normal", "uniform", "integers"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 5)])
def test_a_row_depends_on_its_seed_alone(draw: str, shape: tuple[int, ...]) -> None:
    def drawn(seeds: torch.Tensor) -> torch.Tensor:
        arguments = (10,) if draw == "integers" else ()
        return getattr(NoiseSource(seeds), draw)(*arguments, (len(seeds), *shape), 4)  # type: ignore[no-any-return]

    alone = torch.cat([drawn(seed[None]) for seed in SEEDS])
    assert torch.equal(drawn(SEEDS), alone)
    assert torch.equal(drawn(SEEDS.flip(0)).flip(0), alone)


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    noise = NoiseSource(SEEDS)
    assert torch.equal(noise.uniform((4, 9), "x")[:, :3], noise.uniform((4, 3), "x"))


def test_other_seeds_names_and_salts_give_other_numbers() -> None:
    draws = [
        NoiseSource(SEEDS).normal((4, 8), 0),
        NoiseSource(SEEDS).normal((4, 8), 1),
        NoiseSource(SEEDS).normal((4, 8), "0"),
        NoiseSource(SEEDS).normal((4, 8), "start"),
        NoiseSource(SEEDS, salt="a").normal((4, 8), 0),
        NoiseSource(SEEDS + 2**32).normal((4, 8), 0),
    ]
    rows = torch.cat(draws)
    assert len(rows.unique(dim=0)) == len(rows)


def test_purposes_runs_and_blocks_never_share_a_seed() -> None:
    runs, blocks, n = (0, 1, MAX_RUN_SEED), (0, 1, 2**12 - 1), 2**28
    ends = [
        (int(seed_range(run, purpose, 1, block)[0]), int(seed_range(run, purpose, 1, block)[0]) + n)
        for purpose, run, block in itertools.product(PURPOSES, runs, blocks)
    ]
    ends.sort()
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ends))
    assert ends[0][0] >= 0
    assert ends[-1][1] <= 2**63


def test_the_seeds_of_users_count_from_zero() -> None:
    assert seed_range(0, "sample", 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("run", "n", "block"), [(-1, 1, 0), (MAX_RUN_SEED + 1, 1, 0), (0, 2**28 + 1, 0), (0, 1, 2**12)]
)
def test_seeds_out_of_range_are_refused(run: int, n: int, block: int) -> None:
    with pytest.raises(ConfigError):
        seed_range(run, "report", n, block)


def test_moments_are_those_of_the_distributions() -> None:
    noise, n = NoiseSource(torch.arange(2000)), 2000 * 100
    normal, uniform = noise.normal((2000, 100), "n").double(), noise.uniform((2000, 100), "u").double()
    error = 5 / math.sqrt(n)
    assert abs(float(normal.mean())) < error
    assert abs(float(normal.var()) - 1) < error * math.sqrt(2)
    assert abs(float((normal**4).mean()) - 3) < error * math.sqrt(96)
    assert abs(float(uniform.mean()) - 0.5) < error / math.sqrt(12)
    assert abs(float((uniform**2).mean()) - 1 / 3) < error
    assert abs(float((normal[:, 0] * normal[:, 1]).mean())) < 5 / math.sqrt(2000)
    assert abs(float((normal[:-1] * normal[1:]).mean())) < error
    assert 0 < float(uniform.min()) < float(uniform.max()) < 1


def test_integers_are_uniform() -> None:
    counts = NoiseSource(torch.arange(1000)).integers(7, (1000, 70), "i").flatten().bincount()
    assert len(counts) == 7
    assert float((counts - 10000).abs().max()) < 500


def test_a_shape_of_other_length_is_refused() -> None:
    with pytest.raises(ValueError, match="does not start with the number of seeds, 4"):
        NoiseSource(SEEDS).normal((3, 2), 0)
