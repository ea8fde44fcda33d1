"""Eq. 5 of the IRS paper in integers, and an exhaustive search for what the paper defines by argmax."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache


@cache
def stirling2(n: int, k: int) -> int:
    if n == k:
        return 1
    return 0 if k == 0 or k > n else k * stirling2(n - 1, k) + stirling2(n - 1, k - 1)


def exact_p(k: int, n: int, s: int) -> Fraction:
    return Fraction(stirling2(n, k) * math.perm(s, k), s**n)


def big_stirling2(n: int, k: int) -> int:
    """By inclusion and exclusion, without a table."""
    return sum((-1) ** (k - i) * math.comb(k, i) * i**n for i in range(k + 1)) // math.factorial(k)
