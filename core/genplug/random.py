"""Randomness: one stream per seed, so that a sample depends on its own seed and on nothing else.

Numbers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
2011), a counter-based generator: the n-th number of a stream is a pure function of (seed,
stream, n). So any batch, any process and any device draws the same numbers, and nothing has to
be saved to resume. Seeds are laid out so that purposes can never share one (`seed_range`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from genplug.errors import ConfigError

Purpose = Literal["sample", "train", "pool", "select", "report"]
PURPOSES: tuple[Purpose, ...] = ("sample", "train", "pool", "select", "report")
RUN_BITS, BLOCK_BITS, INDEX_BITS = 20, 12, 28
MAX_RUN_SEED = 2**RUN_BITS - 1

_MASK = 0xFFFFFFFF
_ROUND_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def seed_range(run_seed: int, purpose: Purpose, n: int, block: int = 0) -> Tensor:
    """Return n consecutive seeds, int64 N, disjoint for every (run seed, purpose, block).

    Bits from the top: purpose (3), run seed (20), block (12), index (28). So the seeds 0, 1,
    2, ... that a user names for `genplug sample` are those of purpose `sample`, run seed 0.
    """
    if not 0 <= run_seed <= MAX_RUN_SEED:
        raise ConfigError(f"seed {run_seed} is outside 0 to {MAX_RUN_SEED}")
    if not 0 <= block < 2**BLOCK_BITS:
        raise ConfigError(f"seed block {block} is outside 0 to {2**BLOCK_BITS - 1}")
    if n > 2**INDEX_BITS:
        raise ConfigError(f"{n} seeds in one block; at most {2**INDEX_BITS} fit")
    base = PURPOSES.index(purpose) << (RUN_BITS + BLOCK_BITS + INDEX_BITS)
    base += run_seed << (BLOCK_BITS + INDEX_BITS)
    base += block << INDEX_BITS
    return torch.arange(base, base + n, dtype=torch.int64)


class NoiseSource:
    """One independent random stream per seed.

    A draw is named by its sampler step (an int) or by a word: `normal(shape, 3)`,
    `normal(shape, "start")`. Equal names give equal numbers, different names independent ones.
    `salt` separates uses of the same seeds, such as two trainings of one run.
    """

    def __init__(self, seeds_N: Tensor, device: torch.device | str = "cpu", salt: str = "") -> None:
        self.seeds_N = seeds_N.to(device=device, dtype=torch.int64)
        self._salt = zlib.crc32(salt.encode()) if salt else 0

    def __len__(self) -> int:
        return len(self.seeds_N)

    def uniform(self, shape: Sequence[int], step: int | str) -> Tensor:
        """Return float32 numbers in (0, 1), each row from its own stream; `shape[0]` is N."""
        return _unit(self._bits(shape, step)).reshape(tuple(shape))

    def normal(self, shape: Sequence[int], step: int | str) -> Tensor:
        """Return float32 standard normal numbers, each row from its own stream (Box-Muller)."""
        u_NC = _unit(self._bits(shape, step, even=True))
        radius, angle = u_NC[:, 0::2].log().mul_(-2).sqrt_(), u_NC[:, 1::2] * (2 * math.pi)
        pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(1)
        return pairs[:, : math.prod(shape[1:])].reshape(tuple(shape))

    def integers(self, high: int, shape: Sequence[int], step: int | str) -> Tensor:
        """Return int64 numbers in [0, high), high at most 2**31, bias below high / 2**32."""
        return (self._bits(shape, step) * high >> 32).reshape(tuple(shape))

    def _bits(self, shape: Sequence[int], step: int | str, even: bool = False) -> Tensor:
        """Return at least prod(shape[1:]) random 32-bit words per row as int64 NC."""
        if len(shape) == 0 or shape[0] != len(self):
            raise ValueError(f"shape {tuple(shape)} does not start with the number of seeds, {len(self)}")
        count = math.prod(shape[1:])
        words_NC = stream_words(self.seeds_N, (self._salt, *_stream(step)), -(-count // 4))
        return words_NC if even else words_NC[:, :count]


def stream_words(seeds_N: Tensor, stream: tuple[int, int, int], blocks: int) -> Tensor:
    """Return random words, int64 in [0, 2**32), shape (N, 4 * blocks).

    The key is the seed (low word, high word); the counter is (block, *stream).
    """
    block = torch.arange(blocks, device=seeds_N.device).expand(len(seeds_N), blocks)
    counter = [block, *(torch.full_like(block, word) for word in stream)]
    words = philox(counter, [(seeds_N & _MASK)[:, None], (seeds_N >> 32 & _MASK)[:, None]])
    return torch.stack(words, dim=-1).flatten(1)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> list[Tensor]:
    """Return the four words of Philox4x32-10 for four counter and two key words, all int64 in [0, 2**32)."""
    (x0, x1, x2, x3), (key0, key1) = counter, key
    for _ in range(_ROUNDS):
        product0, product1 = x0 * _ROUND_MULTIPLIERS[0], x2 * _ROUND_MULTIPLIERS[1]
        high0, high1 = product0 >> 32 & _MASK, product1 >> 32 & _MASK
        x0, x1, x2, x3 = high1 ^ x1 ^ key0, product1 & _MASK, high0 ^ x3 ^ key1, product0 & _MASK
        key0, key1 = key0 + _WEYL[0] & _MASK, key1 + _WEYL[1] & _MASK
    return [x0, x1, x2, x3]


def _unit(bits: Tensor) -> Tensor:
    """Map 32-bit words to float32 in (0, 1): the centres of 2**24 equal cells, never 0 or 1."""
    return ((bits >> 8).to(torch.float32) + 0.5).mul_(2.0**-24).clamp_(max=1 - 2.0**-24)


def _stream(step: int | str) -> tuple[int, int]:
    """Return the counter words of a named draw; numbered and worded names cannot meet."""
    return (step, 0) if isinstance(step, int) else (zlib.crc32(step.encode()), 1)
