"""Which real/fake classifier guided, as a judge finds it: the generator's own, or that of the run.

Samples of the base, too, are judged by the guide that then improves it: the run's directory has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug_guidance.classifier import FACTS, RealPotential, read_facts, real_logit
from genplug_guidance.classifier_training import Measured
from genplug_guidance.gradient_objective import last_push, network_of


@dataclass(frozen=True)
class Guide:
    """A real/fake classifier, asked at one noise level: the one where it is most often right."""

    potential: RealPotential
    sigma: float
    encode: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def calls_fake(self, samples: Tensor, labels_N: Tensor | None) -> int:
        """Return how many samples it calls fake, noise of its level added."""
        device = next(self.potential.module.parameters()).device
        x = self.encode(samples.to(device))
        sigma_N = torch.full((len(x),), self.sigma, device=device)
        noise = NoiseSource(torch.arange(len(x)), device, salt="guide").normal(tuple(x.shape), "judge")
        cond = Condition(labels_N=labels_N.to(device)) if labels_N is not None else None
        logit_N = real_logit(self.potential.module(x + self.sigma * noise, sigma_N), cond)
        return int((logit_N <= 0).sum())


def known_guide(run: Run, generator: Any) -> Guide | None:
    """Return the guide of a generator, else of the first guided one of its run; None without any."""
    push = last_push(generator)
    if push is not None and isinstance(push.potential, RealPotential):
        return Guide(push.potential, _best_level(push.facts), generator.encode)
    if run.directory is None or not hasattr(generator, "encode"):
        return None
    for path in sorted(run.directory.glob(f"generator/*/{FACTS}")):
        facts = read_facts(path.parent)
        if "measured" in facts and tuple(facts["blueprint"]["x_shape"]) == tuple(generator.x_shape):
            potential = RealPotential(network_of(facts, path.parent, run))
            return Guide(potential, _best_level(facts), generator.encode)
    return None


def _best_level(facts: Any) -> float:
    """Return the middle, in ln sigma, of the noise bin in which the classifier is most often right."""
    best = Measured.of(facts["measured"]).best
    return math.sqrt(best.low * best.high)
