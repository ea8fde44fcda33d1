"""The evaluator `likelihood-ratio`: ln p_improved - ln p_base, which DDO makes the discriminator's logit.

Exact for likelihoods. For denoisers it is the mean of Delta (arXiv 2503.01103, equations 14 and 15) over
drawn noise levels, the same for both models. A sample is called real where it is positive.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.errors import DataError
from genplug.protocols import EvalInputs, Score
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.samplesets import SampleSet, Subset, batches, subsample
from genplug_analysis.config import LikelihoodRatioConfig
from genplug_analysis.drawing import REAL, histogram_plot
from genplug_analysis.scoring import LEVEL, held_out_of, left_out, score_of
from genplug_ddo.ratio import log_ratio, training_levels
from genplug_metrics.intervals import Interval, bootstrap, bootstrap_mean


class LikelihoodRatio:
    """Log-ratios on held-out real samples and on samples of the base."""

    def __init__(self, config: LikelihoodRatioConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return means, spread and accuracy; none, and a line that says why, where there is no ratio."""
        held_out = held_out_of(inputs, "likelihood-ratio")
        if inputs.base is None or inputs.generator is None:
            raise DataError("likelihood-ratio needs both generators")
        if why := without_ratio(inputs.generator, inputs.base, held_out, run.device):
            return left_out(run, "likelihood-ratio", why)
        n = min(self.config.count, len(inputs.samples), len(held_out))
        real = by_content(subsample(held_out, n, run.seed))
        seeds_N = run.seeds("sample", n, inputs.block)
        real_N, fake_N = self._ratios(inputs.generator, inputs.base, real, seeds_N, run)
        return self._scores(real_N, fake_N, run.seed)

    @torch.no_grad()
    def _ratios(
        self, theta: Any, ref: Any, real: SampleSet, seeds_N: Tensor, run: Run
    ) -> tuple[Tensor, Tensor]:
        """Return the log-ratio of each real sample and of as many samples of the reference, float64 N."""
        found, start = [], 0
        exact = "likelihood" in theta.provides
        for seeds_n in seeds_N.split(run.settings.batch_size):
            rows = range(start, start + len(seeds_n))
            start += len(seeds_n)
            x_real = theta.encode(real.read(rows).to(run.device))
            cond_fake = ref.conditions(seeds_n, run.settings.classes)
            x_fake = ref.sample_x(seeds_n, cond_fake).to(x_real.device)
            cond = None
            if cond_fake is not None and real.labels is not None:
                own = Condition(labels_N=real.labels[rows.start : rows.stop])
                cond = Condition.cat([own.to(x_real.device), cond_fake.to(x_real.device)])
            x, spec = torch.cat([x_real, x_fake]), training_levels(theta, None, None)
            total = torch.zeros(len(x), dtype=torch.float64)
            draws = 1 if exact else self.config.draws
            for draw in range(draws):
                noise = NoiseSource(seeds_n, x_real.device, salt=f"ratio-{draw}")
                total += log_ratio(theta, ref, x, cond, noise, spec).double().cpu()
            found.append(total / draws)
        halves = [part.chunk(2) for part in found]
        return torch.cat([real_n for real_n, _ in halves]), torch.cat([fake_n for _, fake_n in halves])

    def _scores(self, real_N: Tensor, fake_N: Tensor, seed: int) -> dict[str, Score]:
        n, (means, spreads) = len(real_N), _moments(real_N, fake_N)
        extra = {"nats": True, "draws": self.config.draws, "means": means, "standard_deviations": spreads}
        right = torch.cat([_called(real_N), 1 - _called(fake_N)])
        title, note = "log-ratio of improved to base", "nats; positive: called real"
        sets = {"held-out real": (real_N, REAL), "samples of the base": (fake_N, 0)}
        plots = {title: histogram_plot(title, note, sets, [0.0])}

        fake_N, real_N = fake_N.sort().values, real_N.sort().values  # what is drawn depends on no order

        def spread(rows: Tensor) -> float:
            return float(torch.cat([fake_N[rows], real_N[rows]]).std(correction=0))

        def pooled() -> tuple[float, Interval]:
            return spread(torch.arange(n)), bootstrap(spread, n, 200, LEVEL, seed)

        def mean(values_N: Tensor) -> tuple[float, Interval]:
            return float(values_N.mean()), bootstrap_mean(values_N, level=LEVEL, seed=seed)

        return {
            "ratio-real": score_of(*mean(real_N), (n, n), extra, plots),
            "ratio-generated": score_of(*mean(fake_N), (n, n), extra),
            "ratio-spread": score_of(*pooled(), (n, n), extra),
            "ratio-accuracy": score_of(*mean(right), (n, n), extra),
        }


def without_ratio(theta: Any, ref: Any, held_out: SampleSet, device: torch.device) -> str:
    """Say why two generators have no log-ratio on these samples; nothing if they have one."""
    for name, one in (("the result", theta), ("the base", ref)):
        if not {"denoiser", "likelihood"} & one.provides:
            return f"{name} is neither a denoiser nor a likelihood (it is wrapped, or a black box)"
        if "guided" in one.provides:
            return f"{name} is guided, so its denoiser is that of no density"
        if {"text-conditional", "feature-conditional"} & one.provides:
            return f"{name} has conditions that real samples do not come with"
    kinds = [{"denoiser", "likelihood"} & one.provides for one in (theta, ref)]
    if not kinds[0] & kinds[1] or theta.x_shape != ref.x_shape:
        return f"base and result do not work on the same x ({ref.x_shape} and {theta.x_shape})"
    if "class-conditional" in theta.provides and held_out.labels is None:
        return f"{held_out.name} has no labels, which the generators need"
    try:
        shape = tuple(theta.encode(held_out.read([0]).to(device)).shape[1:])
    except (RuntimeError, ValueError):  # samples that no codec of this generator takes
        shape = held_out.shape
    if shape != tuple(theta.x_shape):
        return f"{held_out.name} has x of shape {shape}, the generators work on {tuple(theta.x_shape)}"
    return ""


def by_content(samples: SampleSet) -> SampleSet:
    """Return samples in an order of what they hold: which noise one gets does not depend on its place."""
    digests = [
        hashlib.sha256(row.contiguous().numpy().tobytes()).digest()
        for batch in batches(samples)
        for row in batch
    ]
    return Subset(samples, sorted(range(len(samples)), key=digests.__getitem__))


def _called(ratio_N: Tensor) -> Tensor:
    """Return 1 where a sample is called real, 0 where generated, a half where the ratio is 0."""
    return (ratio_N.sign() + 1) / 2


def _moments(real_N: Tensor, fake_N: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    sets = {"real": real_N, "generated": fake_N}
    means = {name: float(values.mean()) for name, values in sets.items()}
    return means, {name: float(values.std(correction=0)) for name, values in sets.items()}
