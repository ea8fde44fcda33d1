"""How much a Mann-Whitney statistic varies over samples, whatever the two distributions are.

Legend: M values of one set, n of the other.
"""

from __future__ import annotations

import torch
from torch import Tensor


def z_variance(fake_M: Tensor, test_n: Tensor) -> float:
    """Return the variance of Z = (U - n M / 2) / sqrt(n M (n + M + 1) / 12), U the pairs with fake > test.

    DeLong et al. (1988): that of the share U / (n M) is the variance over one set of a value's place in the
    other set, over its size, and the same the other way round. Sets of one value get the variance 1 of equal
    distributions.
    """
    M, n = len(fake_M), len(test_n)
    if min(M, n) < 2:
        return 1.0
    share = float(_places(fake_M, test_n).var()) / M + float(_places(test_n, fake_M).var()) / n
    return 12 * n * M * share / (n + M + 1)


def _places(values: Tensor, among: Tensor) -> Tensor:
    """Return for each value the share of the others below it, ties half."""
    ordered = among.sort().values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to).double() / (2 * len(among))
