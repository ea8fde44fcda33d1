"""The threshold of rejection with what surrounds it: the ideal curve, and what weaker generators meet."""

from __future__ import annotations

from typing import Any

from genplug_irs.rejection import Rejection
from genplug_irs.statistics import coupon_expected_fraction, rejection_power, share_of

WEAKER = (0.9, 0.75, 0.5, 0.25)  # of the wanted reach, for which the power is told
STEPS = 5  # of the curve


def threshold_facts(N: int, n: int, target: float, alpha_e: float) -> dict[str, Any]:
    """Return k_min (Eq. 10), its duplicates, expected counts (Eq. 2) and powers, as plain data."""
    test = Rejection(target, n, N, alpha_e)
    sizes = sorted({max(1, round(n * i / STEPS)) for i in range(1, STEPS + 1)})
    return {
        "N": N,
        "n": n,
        "diversity": target,
        "s": test.reach,
        "error": alpha_e,
        "k_min": test.k_min,
        "duplicates_allowed": test.allowed,
        "curve": [
            {
                "n": m,
                "ideal": N * coupon_expected_fraction(m, N),
                "wanted": test.reach * coupon_expected_fraction(m, test.reach),
            }
            for m in sizes
        ],
        "power": [
            {"diversity": share * target, "rejected": rejection_power(n, s, test.k_min)}
            for share in WEAKER
            if (s := int(share * share_of(target, N))) >= 1
        ],
    }


def threshold_lines(facts: dict[str, Any]) -> list[str]:
    """Return the facts for people."""
    lines = [
        f"N = {facts['N']:,} training images, n = {facts['n']:,} samples, diversity {facts['diversity']:g} "
        f"(s = {facts['s']:,})",
        f"k_min = {facts['k_min']:,}: fewer distinct images reject, error at most {facts['error']:g}",
        f"duplicates allowed: {facts['duplicates_allowed']:,}; one more rejects, however few samples it took",
        "",
        "distinct images expected   of all     at the diversity",
    ]
    lines += [
        f"{row['n']:>12,} samples {row['ideal']:>14,.1f} {row['wanted']:>14,.1f}" for row in facts["curve"]
    ]
    lines += ["", "a generator of diversity   is rejected with probability"]
    return lines + [f"{row['diversity']:>24.4g}   {row['rejected']:.4f}" for row in facts["power"]]
