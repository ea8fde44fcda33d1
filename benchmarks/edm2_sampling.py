"""Time genplug's EDM2 network against the published code.

    python benchmarks/edm2_sampling.py PATH_OF_EDM2_CHECKOUT

Both sides hold the same random weights (EDM2-XS at 64x64 pixels, 1000 classes) and are called in turn within
one run, so that a busy machine slows both. Prints per batch size the median seconds of one denoiser call, the
ratio, and the largest difference of the outputs in units of their standard deviation (bound: 5e-5).
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genplug_edm2.network import Precond

XS = {"img_resolution": 64, "img_channels": 3, "label_dim": 1000, "model_channels": 128, "use_fp16": False}
TOLERANCE = 5e-5
GOALS = {1: 1.3, 8: 1.15}


def published_network(checkout: Path) -> nn.Module:
    """Build the published network from a checkout of NVlabs/edm2."""
    sys.path.insert(0, str(checkout))
    # Its utilities import this HTTP client at the top; no call here needs it.
    sys.modules.setdefault("requests", types.ModuleType("requests"))
    module: Any = importlib.import_module("training.networks_edm2")
    net: nn.Module = module.Precond(**XS)
    return net


def randomize_gains_(net: nn.Module) -> None:
    """Replace the zero gains of a fresh network, with which its output would not depend on most weights."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("gain"):
                parameter.uniform_(0.5, 1.5)


def timed(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[float, Tensor]:
    """Seconds and output of one call."""
    start = time.perf_counter()
    output = net(*inputs)
    return time.perf_counter() - start, output


def compare(ours: nn.Module, published: nn.Module, batch: int, repeats: int) -> bool:
    """Print one line for a batch size; return whether outputs agree and the goal is met."""
    x = torch.randn(batch, 3, 64, 64) * 2
    inputs = (x, torch.logspace(-1, 1, batch), torch.eye(1000)[torch.arange(batch)])
    seconds: dict[str, list[float]] = {"published": [], "genplug": []}
    error = 0.0
    for repeat in range(repeats + 1):
        old, expected = timed(published, inputs)
        new, actual = timed(ours, inputs)
        error = max(error, float((actual - expected).abs().max() / expected.std()))
        if repeat:  # the first call warms up
            seconds["published"].append(old)
            seconds["genplug"].append(new)
    old, new = (statistics.median(values) for values in seconds.values())
    print(
        f"batch {batch}: published {old:.3f} s, genplug {new:.3f} s, ratio {old / new:.2f} "
        f"(goal {GOALS[batch]}), max error {error:.1e} std (bound {TOLERANCE:.0e})"
    )
    return error <= TOLERANCE and old / new >= GOALS[batch]


def main() -> None:
    """Run the comparison; exit with 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of github.com/NVlabs/edm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    published = published_network(arguments.checkout).eval().requires_grad_(False)
    randomize_gains_(published)
    ours = Precond(**XS).eval().requires_grad_(False)
    ours.load_state_dict(published.state_dict())
    with torch.no_grad():
        passed = [compare(ours, published, batch, arguments.repeats) for batch in GOALS]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
