"""Stirling numbers of the second kind, of which the paper's Eq. 5 is made; the score does without them."""

from __future__ import annotations

import math

from genplug_irs.occupancy import Window


def log_stirling2(n: int, k: int) -> float:
    """Return ln S(n, k), to machine precision: Eq. 5 at s = k, where every draw is of the k seen."""
    if k in (1, n):
        return 0.0
    return float(Window(n, k, k).log_p(k)[0]) - math.lgamma(k + 1) + n * math.log(k)


def log_stirling2_temme(n: int, k: int) -> float:
    """Return Temme's estimate of ln S(n, k) (Eq. 6), error at most 0.066 / n; exact for k = 1 and k = n."""
    if k in (1, n):
        return 0.0
    y = (n - k) / k  # v - 1
    x = _one_minus_G(y)
    log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    root = 0.5 * (math.log(y) - math.log1p(y) - math.log(x))
    return root + (n - k) * math.log(y / (x + y)) + n * math.log(k) - k * math.log(n) + k * x + log_choose


def _one_minus_G(y: float) -> float:
    """Solve G = v e^(G - v), v = 1 + y, for x = 1 - G in (0, 1): ln(1 - x) + x = ln(1 + y) - y."""
    if y >= 1:  # the fixed point contracts by G < 0.41
        G = 0.0
        for _ in range(60):
            G = (1 + y) * math.exp(G - 1 - y)
        return 1 - G
    x, target = y, math.log1p(y) - y
    for _ in range(60):  # Newton from the right of the root of a concave function: monotone
        x += (math.log1p(-x) + x - target) * (1 - x) / x
    return x
