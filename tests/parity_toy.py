"""Recompute the golden files `toy_*`: the fractal's components, densities and scores."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genplug_toy.fractal import fractal
from genplug_toy.mixture import GaussianMixture


def recompute(golden: Any) -> dict[str, Tensor]:
    """Return every output by its full key, `out/CLASSES/phi` or `out/CLASSES/pdf_SIGMA`."""
    both = fractal()
    mixtures = {"A": both.of_class(0), "B": both.of_class(1), "AB": both}
    keys = (key.split("/") for key in golden.part("out/"))
    return {f"out/{c}/{what}": _output(mixtures[c], what, golden.part("in/")) for c, what in keys}


def _output(mixture: GaussianMixture, what: str, given: dict[str, Tensor]) -> Tensor:
    components = {"phi": mixture.weights_M, "mu": mixture.means_MD, "Sigma": mixture.covariances_MDD}
    if what in components:
        return components[what].float()
    quantity, level = what.split("_")
    sigma = given["sigma_persample"] if level == "persample" else float(level)
    if quantity == "score":
        return mixture.score(given["x"], sigma)
    return mixture.log_density(given["x"], sigma).exp()


def verdict(golden: Any, key: str, got: Tensor, expected: Tensor) -> tuple[float, float, str]:
    """Return error, tolerance and its unit, by the rules of the reference data."""
    difference = (got.double() - expected.double()).abs()
    if "/pdf_" in key:
        return float((difference / expected.double().abs()).max()), 1e-4, "relative"
    if "/score_" in key:
        return float((difference / (1 + expected.double().abs())).max()), 1e-4, "x (1 + |score|)"
    return float(difference.max()), 0.0, "absolute"
