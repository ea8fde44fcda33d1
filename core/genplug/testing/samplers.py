"""What a sampler promises, on a denoiser whose solution is known in closed form.

Data are normal with mean m and standard deviation s, so D(x; sigma) = (s^2 x + sigma^2 m) /
(s^2 + sigma^2), and the probability-flow ODE carries x_T to m + (x_T - m) sqrt(s^2 / (s^2 +
sigma_T^2)) (Karras et al. 2022, equation 4). Legend: N samples, S steps.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from genplug.config import merge, validate
from genplug.parts import Part
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.testing.suite import ComponentSuite

MEAN, STD = 0.3, 0.5
NOISE = NoiseSpec(sigma_min=0.002, sigma_max=80.0, sigma_data=STD)
ROWS, SHAPE = 256, (3, 4, 4)
FINE = 64  # steps that bring any sampler near its limit


class SamplerSuite(ComponentSuite):
    """Promises of a sampler."""

    kind: ClassVar[str] = "sampler"

    @pytest.fixture
    def sampler(self, part: Part, run: Run) -> Any:
        """Return the sampler."""
        return part.config.build(run)

    def test_noise_levels(self, sampler: Any) -> None:
        """Its noise levels fall from the network's highest to zero, within the network's range."""
        sigmas = sampler.sigmas(NOISE)
        assert sigmas.ndim == 1, f"sigmas have shape {tuple(sigmas.shape)}"
        assert sigmas.is_floating_point()
        assert float(sigmas[-1]) == 0, f"the last level is {float(sigmas[-1])}"
        assert bool((sigmas[1:] < sigmas[:-1]).all()), "the levels do not fall"
        narrow = sampler.sigmas(NoiseSpec(sigma_min=0.1, sigma_max=2.0))
        assert float(narrow[0]) <= 2.0 * (1 + 1e-5), f"starts at {float(narrow[0])}, the network ends at 2"
        assert float(narrow[-2]) >= 0.1 * (1 - 1e-5), f"goes to {float(narrow[-2])}, the network to 0.1"

    def test_a_certain_denoiser(self, sampler: Any) -> None:
        """If the denoiser always gives the same clean x, that x is the sample."""
        x = integrate(sampler, lambda x, sigma_N: torch.full_like(x, 0.7))
        error = float((x - 0.7).abs().max())
        assert error <= 0.02, f"off by {error:.3g}"

    def test_the_distribution(self, part: Part, run: Run) -> None:
        """From normal data come samples of their mean and standard deviation."""
        x = integrate(_with_steps(part, FINE).build(run), normal_denoiser)
        assert x.shape == (ROWS, *SHAPE)
        assert x.dtype == torch.float32, f"samples are {x.dtype}"
        assert abs(float(x.mean()) - MEAN) <= 0.05, f"mean {float(x.mean()):.3f}, not {MEAN}"
        assert abs(float(x.std()) / STD - 1) <= 0.25, f"standard deviation {float(x.std()):.3f}, not {STD}"

    def test_more_steps_are_more_exact(self, part: Part, run: Run) -> None:
        """Four times the steps bring the samples closer to the exact solution."""
        if "steps" not in type(part.config).model_fields:
            pytest.skip("has no option 'steps'")
        if not deterministic(part.config.build(run)):
            pytest.skip("is stochastic")
        errors = [_error(_with_steps(part, steps).build(run)) for steps in (8, 32)]
        assert errors[1] < 0.7 * errors[0], f"error {errors[0]:.3g} with 8 steps, {errors[1]:.3g} with 32"

    def test_a_sample_depends_on_its_seed_alone(self, sampler: Any) -> None:
        """The same seed gives the same sample, alone and in a batch."""
        together = integrate(sampler, normal_denoiser, torch.arange(4))
        alone = torch.cat([integrate(sampler, normal_denoiser, torch.tensor([i])) for i in range(4)])
        error = float((alone - together).abs().max())
        assert error <= 1e-4, f"samples differ by {error:.3g}"

    def test_the_denoiser_is_called_as_promised(self, part: Part, sampler: Any) -> None:
        """The denoiser gets one level per row, none above the start, as often as the options say."""
        levels: list[Tensor] = []

        def watching(x: Tensor, sigma_N: Tensor) -> Tensor:
            levels.append(sigma_N)
            return normal_denoiser(x, sigma_N)

        integrate(sampler, watching, torch.arange(4))
        assert all(sigma_N.shape == (4,) for sigma_N in levels), "sigma is not one per row"
        highest = float(sampler.sigmas(NOISE)[0])
        assert all(float(sigma_N.max()) <= highest * 1.5 for sigma_N in levels), "a level above the start"
        assert all(float(sigma_N.min()) > 0 for sigma_N in levels), "a level of zero"
        counted = getattr(part.config, "evaluations", None)
        assert counted is None or counted() == len(levels), f"{len(levels)} calls, promised {counted()}"


def normal_denoiser(x: Tensor, sigma_N: Tensor) -> Tensor:
    """Return the exact denoiser of the kit's normal data."""
    variance = sigma_N.reshape(-1, *(1 for _ in x.shape[1:])) ** 2
    return (STD**2 * x + variance * MEAN) / (STD**2 + variance)


def integrate(sampler: Any, denoise: Any, seeds_N: Tensor | None = None, salt: str = "") -> Tensor:
    """Return samples from the kit's start noise; `salt` changes only the noise drawn on the way."""
    seeds_N = torch.arange(ROWS) if seeds_N is None else seeds_N
    sigmas = sampler.sigmas(NOISE)
    samples: Tensor = sampler.sample(
        denoise, _start(seeds_N, sigmas), sigmas, NoiseSource(seeds_N, salt=salt)
    )
    return samples


def deterministic(sampler: Any) -> bool:
    """Return whether a sampler draws no noise on its way."""
    a, b = (integrate(sampler, normal_denoiser, torch.arange(4), salt) for salt in ("", "other"))
    return bool(torch.equal(a, b))


def _start(seeds_N: Tensor, sigmas: Tensor) -> Tensor:
    noise = NoiseSource(seeds_N).normal((len(seeds_N), *SHAPE), "start")
    return noise * sigmas[0].to(torch.float32)


def _error(sampler: Any) -> float:
    """Return the root mean square distance from the exact solution."""
    sigmas = sampler.sigmas(NOISE)
    seeds_N = torch.arange(64)
    x_T = _start(seeds_N, sigmas)
    exact = MEAN + (x_T - MEAN) * STD / (STD**2 + float(sigmas[0]) ** 2) ** 0.5
    return float((integrate(sampler, normal_denoiser, seeds_N) - exact).square().mean().sqrt())


def _with_steps(part: Part, steps: int) -> Any:
    """Return the sampler's configuration with other steps, where it has such an option."""
    if "steps" not in type(part.config).model_fields:
        return part.config
    return validate(type(part.config), merge(part.options(), {"steps": steps}), part.name)
