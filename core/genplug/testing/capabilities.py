"""What the capabilities `denoiser`, `likelihood` and `trainable` promise, as tests of a generator.

Legend: N rows, D dimensions of a flat x; sigma is a noise level in units of x.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.protocols import NoiseSpec
from genplug.random import NoiseSource
from genplug.testing.workplace import drawn, otherwise

ROWS = 4
SMALL_SPACE = 70_000  # states that can be summed in a second
STEPS = 30


class DenoiserPromises:
    """D(x; sigma) is the expected clean x."""

    def test_noise_levels(self, generator: Any) -> None:
        """Its noise levels are in order, its training levels positive, and its weights too."""
        spec = _noise(generator)
        assert 0 < spec.sigma_min < spec.sigma_max, f"sigma from {spec.sigma_min} to {spec.sigma_max}"
        sigma_N = spec.draw(NoiseSource(torch.arange(64)))
        assert sigma_N.shape == (64,), f"training levels have shape {tuple(sigma_N.shape)}"
        assert bool((sigma_N > 0).all()), "a training level is not positive"
        assert bool((spec.weight(sigma_N) > 0).all()), "a training weight is not positive"
        rounded_N = spec.round_sigma(sigma_N)
        assert torch.equal(spec.round_sigma(rounded_N), rounded_N), "rounding twice differs from once"

    def test_codec(self, generator: Any) -> None:
        """Samples are encoded to x_shape, and decoding gives samples again."""
        _needs(generator, "denoiser", "likelihood")
        samples = drawn(generator, torch.arange(ROWS))
        x = generator.encode(samples.to(_device(generator)))
        assert tuple(x.shape[1:]) == tuple(generator.x_shape), f"encode gives {tuple(x.shape[1:])}"
        decoded = generator.decode(x).cpu()
        assert decoded.shape == samples.shape, f"decode gives {tuple(decoded.shape)}"
        assert decoded.dtype == samples.dtype, f"decode gives {decoded.dtype}"
        if "latent" not in generator.provides and "denoiser" in generator.provides:
            error = float((decoded.float() - samples.float()).abs().max())
            assert error <= 1e-4 * max(1.0, float(samples.float().abs().max())), f"off by {error}"

    def test_clean_at_small_noise(self, generator: Any) -> None:
        """At the lowest noise level the denoiser returns its input, up to a few times that level."""
        spec = _noise(generator)
        x, cond = _data(generator), _conditions(generator)
        error = float((_denoise(generator, x, spec.sigma_min, cond) - x).square().mean().sqrt())
        limit = 0.1 * spec.sigma_data + 10 * spec.sigma_min
        assert error <= limit, f"it changes x by {error:.3g} at sigma {spec.sigma_min}, more than {limit:.3g}"

    def test_mean_at_large_noise(self, generator: Any) -> None:
        """At the highest noise level the denoiser ignores its input: the result stays near the mean."""
        spec = _noise(generator)
        x, cond = _data(generator), _conditions(generator)
        noise = NoiseSource(torch.arange(ROWS) + 50, _device(generator)).normal(tuple(x.shape), "far")
        D = _denoise(generator, x + spec.sigma_max * noise, spec.sigma_max, cond)
        assert D.shape == x.shape
        size, limit = float(D.square().mean().sqrt()), 5 * spec.sigma_data + 0.05 * spec.sigma_max
        assert size <= limit, f"it returns {size:.3g} at sigma {spec.sigma_max}, more than {limit:.3g}"

    def test_rows_are_denoised_alone(self, generator: Any) -> None:
        """A row is denoised with its own noise level, whatever else is in the batch."""
        spec = _noise(generator)
        if "batch-coupled" in generator.provides:
            pytest.skip("claims to be batch-coupled")
        x, cond = _data(generator), _conditions(generator)
        sigma_N = torch.logspace(math.log10(spec.sigma_min), math.log10(spec.sigma_max), ROWS).to(x)
        with torch.inference_mode():
            together = generator.denoise(x, sigma_N, cond)
            rows = [torch.tensor([i]) for i in range(ROWS)]
            alone = [
                generator.denoise(x[i], sigma_N[i], cond.take(i) if cond is not None else None) for i in rows
            ]
        error = float((torch.cat(alone) - together).abs().max())
        assert error <= 1e-4 * max(1.0, float(together.abs().max())), f"rows differ by {error:.3g}"

    def test_sample_x(self, generator: Any) -> None:
        """sample_x returns x, and decoding it gives the sample of that seed."""
        _needs(generator, "denoiser", "likelihood")
        seeds_N = torch.arange(ROWS)
        cond = generator.conditions(seeds_N)
        with torch.inference_mode():
            x = generator.sample_x(seeds_N, cond)
            samples = generator.decode(x)
        assert tuple(x.shape) == (ROWS, *generator.x_shape), f"sample_x gives {tuple(x.shape)}"
        assert torch.equal(samples.cpu(), drawn(generator, seeds_N)), "decoding it gives other samples"


class LikelihoodPromises:
    """log_prob(x) is the logarithm of a probability."""

    def every_x(self, generator: Any) -> tuple[Tensor, float] | None:
        """Return all x of a small space with the volume of each, or None where there are too many.

        Tokens are counted with the generator's `vocabulary`; one or two continuous dimensions are
        laid on a grid ten standard deviations of the samples wide.
        """
        x = generator.sample_x(torch.arange(256), generator.conditions(torch.arange(256))).cpu()
        D = math.prod(generator.x_shape)
        if not x.is_floating_point():
            vocabulary = int(getattr(generator, "vocabulary", 0))
            if not vocabulary or D * math.log(vocabulary) > math.log(SMALL_SPACE):
                return None
            axes = [torch.arange(vocabulary)] * D
        elif D <= 2:
            span, size = 10 * float(x.std()) + float(x.abs().max()), (1024, 256)[D - 1]
            axes = [torch.linspace(-span, span, size)] * D
        else:
            return None
        cell = math.prod(float(axis[1] - axis[0]) if x.is_floating_point() else 1.0 for axis in axes)
        return torch.cartesian_prod(*axes).reshape(-1, *generator.x_shape), cell

    def test_log_prob(self, generator: Any) -> None:
        """log_prob is one finite float32 per row, whatever else is in the batch."""
        _needs(generator, "likelihood")
        seeds_N = torch.arange(ROWS)
        cond = generator.conditions(seeds_N)
        with torch.inference_mode():
            x = generator.sample_x(seeds_N, cond)
            logp_N = generator.log_prob(x, cond)
            rows = [torch.tensor([i]) for i in range(ROWS)]
            alone = [generator.log_prob(x[i], cond.take(i) if cond is not None else None) for i in rows]
        assert logp_N.shape == (ROWS,), f"log_prob gives {tuple(logp_N.shape)}"
        assert logp_N.dtype == torch.float32, f"log_prob is {logp_N.dtype}"
        assert bool(logp_N.isfinite().all()), "log_prob is not finite"
        assert torch.allclose(torch.cat(alone), logp_N, atol=1e-3), "log_prob of a row depends on its batch"

    def test_probabilities_sum_to_one(self, generator: Any) -> None:
        """The probabilities of all x sum to one, and samples occur as often as they say."""
        _needs(generator, "likelihood")
        found = self.every_x(generator)
        if found is None:
            pytest.skip("too many x to sum; give `tiny` values that make the space small")
        every, cell = found
        logp = _log_prob(generator, every, 0).double() + math.log(cell)
        total = float(logp.exp().sum())
        assert abs(total - 1) <= 0.01, f"they sum to {total:.4f}"
        seeds_N = torch.arange(512)
        cond = _first_class(generator, len(seeds_N))
        with torch.inference_mode():
            own_N = generator.log_prob(generator.sample_x(seeds_N, cond), cond).double() + math.log(cell)
        expected, error = float((logp.exp() * logp).sum()), float(own_N.std()) / math.sqrt(len(seeds_N))
        gap = abs(float(own_N.mean()) - expected)
        assert gap <= 5 * error + 1e-3, (
            f"samples have {float(own_N.mean()):.4f} nats, expected {expected:.4f} +- {error:.4f}"
        )


class TrainablePromises:
    """A torch module with a training loss."""

    def test_module(self, generator: Any) -> None:
        """Its module has parameters, and sampling and training go through it."""
        _needs(generator, "trainable")
        assert any(True for _ in generator.module.parameters()), "the module has no parameters"
        calls: list[int] = []
        hook = generator.module.register_forward_hook(lambda *_: calls.append(1))
        drawn(generator, torch.arange(ROWS))
        sampled = len(calls)
        generator.training_loss(*_batch(generator))
        hook.remove()
        assert sampled, "sampling goes past the module"
        assert len(calls) > sampled, "the training loss goes past the module"

    def test_training_loss(self, generator: Any) -> None:
        """The training loss is one finite number per row, a function of the row and its own draws."""
        _needs(generator, "trainable")
        x, cond, draws = _batch(generator)
        with torch.no_grad():
            loss_N = generator.training_loss(x, cond, draws)
            again_N = generator.training_loss(*_batch(generator))
        assert loss_N.shape == (ROWS,), f"the loss has shape {tuple(loss_N.shape)}"
        assert bool(loss_N.isfinite().all()), "the loss is not finite"
        assert torch.allclose(loss_N, again_N, rtol=1e-5), "equal draws give another loss"
        with torch.no_grad():
            rows = [_row(x, cond, i, generator) for i in range(ROWS)]
            alone_N = torch.cat([generator.training_loss(*row) for row in rows])
        assert torch.allclose(alone_N, loss_N, rtol=1e-3), "the loss of a row depends on its batch"

    def test_training_lowers_the_loss(self, generator: Any) -> None:
        """Thirty steps of Adam on one batch lower its loss; a frozen copy is not changed."""
        _needs(generator, "trainable")
        model, kept = generator.clone(), drawn(generator, torch.arange(ROWS))
        model.module.train(False).requires_grad_(True)
        optimiser = torch.optim.Adam(model.module.parameters(), lr=3e-3)
        losses = [_step(model, optimiser) for _ in range(STEPS)]
        assert losses[-1] < losses[0], f"from {losses[0]:.4g} to {losses[-1]:.4g}"
        assert torch.equal(drawn(generator, torch.arange(ROWS)), kept), "a clone is not independent"

    def test_other_modules(self, generator: Any) -> None:
        """with_module puts another module in place of its own, as wrapping and averaging need."""
        _needs(generator, "trainable")
        other = generator.clone()
        with torch.no_grad():
            for parameter in other.module.parameters():
                parameter.copy_(otherwise(parameter))
        swapped = generator.with_module(other.module)
        assert swapped.module is other.module
        assert torch.equal(drawn(swapped, torch.arange(ROWS)), drawn(other, torch.arange(ROWS)))

    def test_after_step(self, generator: Any) -> None:
        """after_step restores what steps break: a second time it changes nothing, in any mode."""
        _needs(generator, "trainable")
        model = generator.clone()
        model.after_step()
        once = {name: value.clone() for name, value in model.state_dict().items()}
        model.module.train()
        model.after_step()
        for name, value in model.state_dict().items():
            assert torch.allclose(value, once[name], rtol=1e-3, atol=1e-6), f"{name} changes again"


def _needs(generator: Any, *words: str) -> None:
    if not set(words) & generator.provides:
        pytest.skip(f"does not provide {' or '.join(words)}")


def _noise(generator: Any) -> NoiseSpec:
    _needs(generator, "denoiser")
    spec: NoiseSpec = generator.noise
    return spec


def _device(generator: Any) -> torch.device:
    return next((value.device for value in generator.state_dict().values()), torch.device("cpu"))


def _data(generator: Any) -> Tensor:
    """Return x like those of data: sigma_data wide."""
    noise = NoiseSource(torch.arange(ROWS), _device(generator))
    x: Tensor = noise.normal((ROWS, *generator.x_shape), "data") * generator.noise.sigma_data
    return x


def _conditions(generator: Any) -> Condition | None:
    cond = generator.conditions(torch.arange(ROWS))
    return cond.to(_device(generator)) if cond is not None else None


def _first_class(generator: Any, count: int) -> Condition | None:
    """Return one condition for all rows, so that probabilities can be summed under it."""
    cond = generator.conditions(torch.zeros(1, dtype=torch.int64))
    return None if cond is None else Condition.cat([cond] * count).to(_device(generator))


def _denoise(generator: Any, x: Tensor, sigma: float, cond: Condition | None) -> Tensor:
    with torch.inference_mode():
        D: Tensor = generator.denoise(x, torch.full((len(x),), sigma).to(x), cond)
    return D


def _log_prob(generator: Any, x: Tensor, seed: int, batch: int = 4096) -> Tensor:
    with torch.inference_mode():
        parts = [
            generator.log_prob(rows.to(_device(generator)), _first_class(generator, len(rows))).cpu()
            for rows in x.split(batch)
        ]
    return torch.cat(parts)


def _batch(generator: Any) -> tuple[Tensor, Condition | None, NoiseSource]:
    """Return one training batch: encoded samples, their conditions and draws."""
    device, seeds_N = _device(generator), torch.arange(ROWS)
    samples = drawn(generator, seeds_N).to(device)
    x: Tensor = generator.encode(samples)
    return x, _conditions(generator), NoiseSource(seeds_N, device)


def _row(x: Tensor, cond: Condition | None, i: int, generator: Any) -> tuple[Any, ...]:
    at = torch.tensor([i])
    draws = NoiseSource(at, _device(generator))
    return x[at], cond.take(at) if cond is not None else None, draws


def _step(model: Any, optimiser: torch.optim.Optimizer) -> float:
    """Do one step on the kit's batch and return its loss."""
    optimiser.zero_grad()
    loss: Tensor = model.training_loss(*_batch_of(model)).mean()
    loss.backward()
    optimiser.step()
    model.after_step()
    return float(loss.detach())


def _batch_of(model: Any) -> tuple[Tensor, Condition | None, NoiseSource]:
    """Return a batch that stays the same while the model changes."""
    x = NoiseSource(torch.arange(ROWS) + 9, _device(model)).normal((ROWS, *model.x_shape), "fixed")
    if "denoiser" in model.provides:
        return x * model.noise.sigma_data, _conditions(model), NoiseSource(torch.arange(ROWS), _device(model))
    return _batch(model)
