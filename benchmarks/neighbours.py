"""Time nearest-neighbour scores against the packages people use, and against the machine itself.

    python benchmarks/neighbours.py [--rounds 3] [--rows 10000] [--data gaussian|spectrum] [--large]

Precision, recall, density and coverage of N real and N generated rows of 2048 features (k = 5) against the
`prdc` package, and the five nearest of 100,000 rows of 768 features for 10,000 queries against faiss's flat
index. Each side runs in its own process and in turn with the others; numbers are checked to be equal.

The limit is the machine's own float32 product, the faster of torch's and numpy's in the same round, on the
multiplications that a pass needs: all pairs of two sets, and half the pairs of a set with itself. 100 % is a
pass that costs nothing beside its products. Goals: 75 % and 80 % with float32 alone, and twice the first
where the processor multiplies bfloat16. `gaussian` rows have the hardest distances, all nearly equal;
`spectrum` rows have directions of falling variance, as features have. `--large` adds 50,000 x 50,000 rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from measuring import Cost, interleaved, table

FEATURES, K = 2048, 5
QUERIES, CORPUS, CORPUS_FEATURES = 10_000, 100_000, 768


def features(rows: int, width: int, seed: int, data: str) -> Any:
    """Return float32 rows."""
    import torch

    x_ND = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return x_ND.mul_(torch.logspace(0, -2, width)) if data == "spectrum" else x_ND


def float32_product(library: str) -> Callable[[], float]:
    """Return a measurement of float32 multiply-adds per second, twice counted as is usual: GFLOP/s."""
    import numpy as np
    import torch

    a, b = (features(4096, FEATURES, seed, "gaussian") for seed in (0, 1))
    out = torch.empty(4096, 4096)
    if library == "torch":
        return lambda: _rate(lambda: torch.mm(a, b.T, out=out))
    return lambda: _rate(lambda: np.matmul(a.numpy(), b.numpy().T, out=out.numpy()))


def _rate(product: Callable[[], Any]) -> float:
    times = []
    for _ in range(8):
        start = time.perf_counter()
        product()
        times.append(time.perf_counter() - start)
    return 2 * 4096 * 4096 * FEATURES / statistics.median(times[2:]) / 1e9


def our_prdc(rows: int, data: str, precision: str) -> Callable[[], list[float]]:
    """Prepare genplug's four scores."""
    from genplug_distances.exact import Euclidean
    from genplug_metrics.prdc import prdc

    real, fake = (features(rows, FEATURES, seed, data) for seed in (0, 1))
    prdc(real[:600], fake[:600], distance=Euclidean(precision=precision))

    def work() -> list[float]:
        found = prdc(real, fake, (K,), convention="<", distance=Euclidean(precision=precision))[K]
        return [found.precision, found.recall, found.density, found.coverage]

    return work


def their_prdc(rows: int, data: str) -> Callable[[], list[float]]:
    """Prepare the four scores of the `prdc` package."""
    from prdc import compute_prdc

    real, fake = (features(rows, FEATURES, seed, data).numpy() for seed in (0, 1))
    compute_prdc(real[:600], fake[:600], K)

    def work() -> list[float]:
        found = compute_prdc(real, fake, K)
        return [float(found[name]) for name in ("precision", "recall", "density", "coverage")]

    return work


def our_search(data: str, precision: str) -> Callable[[], list[int]]:
    """Prepare genplug's nearest neighbours."""
    from genplug_distances.exact import Euclidean

    corpus, queries = _search_sets(data)
    distance = Euclidean(precision=precision)
    distance.index(corpus[:600]).search(queries[:600], K)
    return lambda: [int(distance.index(corpus).search(queries, K)[1].sum())]


def their_search(data: str) -> Callable[[], list[int]]:
    """Prepare faiss's flat index; it counts from when it has the rows in hand."""
    import faiss

    corpus, queries = (x.numpy() for x in _search_sets(data))

    def work() -> list[int]:
        index = faiss.IndexFlatL2(CORPUS_FEATURES)
        index.add(corpus)
        return [int(index.search(queries, K)[1].sum())]

    return work


def _search_sets(data: str) -> tuple[Any, Any]:
    return features(CORPUS, CORPUS_FEATURES, 0, data), features(QUERIES, CORPUS_FEATURES, 1, data)


def share_of_limit(costs: dict[str, list[Cost]], name: str, multiplications: float) -> float:
    """Return the median over rounds of (time of the products alone) / (time of the pass)."""
    limits = zip(costs["torch float32 product"], costs["numpy float32 product"], strict=True)
    rates = [max(a.result, b.result) for a, b in limits]
    shares = [2e-9 * multiplications / rate / c.wall_s for rate, c in zip(rates, costs[name], strict=True)]
    return statistics.median(shares)


def report(costs: dict[str, list[Cost]], against: str, multiplications: float) -> None:
    """Print the table, each side's share of the limit, and whether the numbers are equal."""
    sides = {name: cost for name, cost in costs.items() if "product" not in name}
    print(table(sides, against))
    for name in costs.keys() - sides.keys():
        print(f"{name:28}{statistics.median(c.result for c in costs[name]):9.0f} GFLOP/s")
    for name in sides:
        print(f"{name:28}{share_of_limit(costs, name, multiplications):9.0%} of the float32 limit")
    results = {name: cost[0].result for name, cost in sides.items()}
    equal = all(result == results[against] for result in results.values())
    print(f"numbers {'equal' if equal else 'differ: ' + str(results)}\n")


def main() -> None:
    """Print a table per task."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000, help="rows of each set")
    parser.add_argument("--data", choices=["gaussian", "spectrum"], default="gaussian")
    parser.add_argument("--large", action="store_true", help="50,000 x 50,000 rows too, once, ours alone")
    options = parser.parse_args()
    n, data = options.rows, options.data
    products = {f"{name} float32 product": (float32_product, name) for name in ("torch", "numpy")}
    print(
        f"precision, recall, density, coverage: {n} x {n} x {FEATURES}, {data}, medians of {options.rounds}"
    )
    sides = {f"genplug {p}": (our_prdc, n, data, p) for p in ("auto", "float32")}
    costs = interleaved(products | sides | {"prdc": (their_prdc, n, data)}, options.rounds)
    report(costs, "prdc", 2.0 * n * n * FEATURES)
    print(f"{K} nearest of {CORPUS} x {CORPUS_FEATURES} for {QUERIES}, {data}, medians of {options.rounds}")
    sides = {f"genplug {p}": (our_search, data, p) for p in ("auto", "float32")}
    costs = interleaved(products | sides | {"faiss flat": (their_search, data)}, options.rounds)
    report(costs, "faiss flat", 1.0 * QUERIES * CORPUS * CORPUS_FEATURES)
    if options.large:
        costs = interleaved({"genplug auto, 50,000 rows": (our_prdc, 50_000, data, "auto")}, 1)
        print(table(costs, *costs))


if __name__ == "__main__":
    main()
