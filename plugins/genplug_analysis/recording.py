"""What a sampler asks a denoiser on its way: x at every noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.denoiser import DenoiserGenerator
from genplug.protocols import Policy


@dataclass(frozen=True)
class Course:
    """The states x_TN... of N samples at T falling noise levels, float64; the last level is 0."""

    sigmas_T: Tensor
    x_T: Tensor
    labels_N: Tensor | None


class Recorder:
    """A denoiser that notes every state it is asked about."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls = inner, list[tuple[float, Tensor]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return what the denoiser returns."""
        self.calls.append((float(sigma_N[0]), x.detach().to("cpu", torch.float64)))
        clean: Tensor = self.inner.denoise(x, sigma_N, cond)
        return clean


def course_of(generator: DenoiserGenerator, seeds_N: Tensor, policy: Policy, batch: int) -> Course:
    """Sample and return all states that a sampler steps from, and the samples behind them."""
    parts = [_course(generator, seeds_n, policy) for seeds_n in seeds_N.split(batch)]
    labels = [part.labels_N for part in parts if part.labels_N is not None]
    joined = torch.cat(labels) if len(labels) == len(parts) else None
    return Course(parts[0].sigmas_T, torch.cat([part.x_T for part in parts], 1), joined)


def _course(generator: DenoiserGenerator, seeds_N: Tensor, policy: Policy) -> Course:
    recorder = Recorder(generator.denoiser)
    cond = generator.conditions(seeds_N, policy)
    with torch.inference_mode():
        x = generator.replace(denoiser=recorder).sample_x(seeds_N, cond).to("cpu", torch.float64)
    states = [*steps(recorder.calls), (0.0, x)]
    labels_N = cond.labels_N if cond is not None else None
    sigmas_T = torch.tensor([sigma for sigma, _ in states], dtype=torch.float64)
    return Course(sigmas_T, torch.stack([x for _, x in states]), labels_N)


def steps(calls: list[tuple[float, Tensor]]) -> list[tuple[float, Tensor]]:
    """Leave out what corrections of second order ask: the next call is at that level or above it again."""
    return [call for call, after in zip(calls, [*calls[1:], (0.0, None)], strict=True) if after[0] < call[0]]
