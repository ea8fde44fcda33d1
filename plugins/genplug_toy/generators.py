"""Generators of points: denoiser, sampler and labels put together."""

from __future__ import annotations

import torch

from genplug.config import Component
from genplug.denoiser import DenoiserGenerator, IdentityCodec, Labels
from genplug.protocols import Denoiser, NoiseSpec
from genplug.runtime import Run
from genplug_toy.config import PointsConfig, ToyConfig, ToyExactConfig, ToyFlowConfig
from genplug_toy.datasets import mixture_of
from genplug_toy.denoisers import (
    Architecture,
    EdmDenoiser,
    ExactDenoiser,
    FlowDenoiser,
    FlowNoise,
    MlpDenoiser,
)


def denoiser_of_points(config: ToyConfig, run: Run) -> DenoiserGenerator:
    """Build an EDM-preconditioned MLP with random weights that depend on the run's seed."""
    return _trainable(EdmDenoiser, NoiseSpec, config, run)


def flow_of_points(config: ToyFlowConfig, run: Run) -> DenoiserGenerator:
    """Build the MLP of a rectified flow with random weights that depend on the run's seed."""
    return _trainable(FlowDenoiser, FlowNoise, config, run)


def exact_denoiser(config: ToyExactConfig, run: Run) -> DenoiserGenerator:
    """Build the exact denoiser of a data set of known density."""
    data = config.mixture()
    with torch.device("cpu"):  # also where all else is built without memory
        mixture = mixture_of(data).noisy(config.noise)
    noise = NoiseSpec(config.sigma_min, config.sigma_max, mixture.rms())
    denoiser = ExactDenoiser(mixture.to(run.device), noise, config.provides())
    return _generator(denoiser, config.sampler, data.num_classes, run)


def _trainable(
    kind: type[MlpDenoiser], levels: type[NoiseSpec], config: PointsConfig, run: Run
) -> DenoiserGenerator:
    architecture = Architecture(config.dims, config.width, config.depth, config.octaves, config.noise_octaves)
    denoiser = kind(
        module=architecture.build(config.num_classes, run.seed, run.device),
        architecture=architecture,
        cond_width=config.num_classes,
        noise=levels(config.sigma_min, config.sigma_max, config.sigma_data, config.log_mean, config.log_std),
        provides=config.provides(),
    )
    return _generator(denoiser, config.sampler, config.num_classes, run)


def _generator(denoiser: Denoiser, sampler: Component, num_classes: int, run: Run) -> DenoiserGenerator:
    return DenoiserGenerator(
        denoiser=denoiser,
        sampler=run.component("sampler", sampler),
        codec=IdentityCodec(),
        conditioning=Labels(num_classes) if num_classes else None,
        modality="points",
    )
