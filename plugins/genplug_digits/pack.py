"""Make `digits.npz` from scikit-learn's copy of the data: `python -m genplug_digits.pack OUT`.

The held-out part is drawn per class in proportion to its size, with a fixed seed, and is never
changed: every published number of the embedded default refers to it.
"""

from __future__ import annotations

import sys

import numpy as np

HELD_OUT = 500


def held_out_rows(labels_N: np.ndarray) -> np.ndarray:
    """Return the numbers of the held-out rows, a share of each class."""
    rng = np.random.default_rng(0)
    held: list[int] = []
    for label in range(10):
        rows = rng.permutation(np.where(labels_N == label)[0])
        held += list(rows[: round(len(rows) * HELD_OUT / len(labels_N))])
    rest = np.setdiff1d(np.arange(len(labels_N)), held)
    held = held[:HELD_OUT] + list(rest[: max(0, HELD_OUT - len(held))])
    return np.array(sorted(held))


def main() -> None:
    """Write grey levels (0 to 16), labels and the held-out mask."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    mask = np.zeros(len(digits.target), dtype=bool)
    mask[held_out_rows(digits.target)] = True
    levels, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    np.savez_compressed(sys.argv[1], levels=levels, labels=labels, held_out=mask)


if __name__ == "__main__":
    main()
