"""Recompute golden files through genplug and compare: `python tests/parity.py FILE...`.

A golden file is a safetensors file in the format of the reference data: `weights/` (reference
names), `in/`, `out/`, and JSON under the metadata key `meta`. What to rebuild follows from the
name in the metadata, how from its parameters and the keys alone, so files with other
configurations, sizes and seeds are served too. Prints the error of each output beside its
tolerance; exits with 1 if one is beyond it or was not recomputed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

import parity_adm
import parity_edm2
import parity_metrics
import parity_toy


@dataclass(frozen=True)
class Golden:
    """One golden file."""

    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below a prefix, without it."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Verdict:
    """How one output fared; `error` and `tolerance` are in the unit that `unit` names."""

    key: str
    error: float
    tolerance: float
    unit: str

    @property
    def good(self) -> bool:
        """Whether the error is within the tolerance (a NaN is not)."""
        return self.error <= self.tolerance


def read(path: Path) -> Golden:
    """Read a golden file."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return Golden(json.loads(file.metadata()["meta"]), tensors)


def check(path: Path) -> tuple[list[Verdict], list[str]]:
    """Return the verdicts of a file, and the outputs that were not recomputed."""
    golden = read(path)
    if str(golden.meta.get("name", "")).startswith("edm2_"):
        return _judge(golden, parity_edm2.recompute(golden), parity_edm2.verdict, lambda key: False)
    if str(golden.meta.get("name", "")).startswith("adm_"):
        return _judge(golden, parity_adm.recompute(golden), parity_adm.verdict, lambda key: False)
    if str(golden.meta.get("name", "")).startswith("toy_"):
        return _judge(golden, parity_toy.recompute(golden), parity_toy.verdict, lambda key: False)
    if "irs_cases" in golden.meta:
        found = parity_metrics.recompute({f"in/{k}": v for k, v in golden.part("in/").items()}, golden.meta)
        return _judge(golden, found, _metric_verdict, parity_metrics.out_of_scope)
    raise SystemExit(f"{path}: no case {golden.meta.get('name')!r}; known: adm_*, edm2_*, toy_*, metrics")


def _judge(
    golden: Golden,
    found: Mapping[str, Tensor],
    verdict: Callable[[Golden, str, Tensor, Tensor], tuple[float, float, str]],
    skip: Callable[[str], bool],
) -> tuple[list[Verdict], list[str]]:
    verdicts, missing = [], []
    for key, expected in golden.tensors.items():
        if not key.startswith(("out/", "out64/")) or skip(key):
            continue
        if key not in found:
            missing.append(key)
        elif found[key].shape != expected.shape:
            verdicts.append(Verdict(key, float("inf"), 0.0, f"shape {tuple(found[key].shape)}"))
        else:
            verdicts.append(Verdict(key, *verdict(golden, key, found[key], expected)))
    return verdicts, missing


def _metric_verdict(golden: Golden, key: str, got: Tensor, expected: Tensor) -> tuple[float, float, str]:
    rtol, atol = parity_metrics.tolerance(key)
    difference = (got.double() - expected.double()).abs()
    difference = torch.where(got.double() == expected.double(), 0.0, difference)  # equal infinities
    allowed = atol + rtol * expected.double().abs()
    worst = int((difference - allowed).flatten().argmax()) if difference.numel() else 0
    return float(difference.flatten()[worst]), float(allowed.flatten()[worst]), "absolute"


def main(paths: list[str]) -> int:
    """Check files, print a line per output, return the exit code."""
    failures = 0
    for path in paths:
        verdicts, missing = check(Path(path))
        print(path)
        for v in verdicts:
            print(
                f"  {'ok  ' if v.good else 'FAIL'} {v.key}  error {v.error:.3g}  "
                f"tolerance {v.tolerance:.3g} ({v.unit})"
            )
        for key in missing:
            print(f"  FAIL {key}  not recomputed")
        failures += len(missing) + sum(not v.good for v in verdicts)
    print(f"{failures} outputs beyond tolerance or missing" if failures else "all outputs within tolerance")
    return int(failures > 0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit("usage: python tests/parity.py FILE...")
    raise SystemExit(main(sys.argv[1:]))
