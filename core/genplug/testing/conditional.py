"""What the capabilities `null-label`, `feature-trainable` and `guided` promise, as tests of a generator.

Legend: N rows, D feature width; sigma is a noise level in units of x.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genplug.checkpoints import digest
from genplug.condition import Condition
from genplug.random import NoiseSource
from genplug.testing.workplace import close, drawn

ROWS = 4
WIDTH = 5  # of features
STRONG = 3.0  # a guidance scale that must show


class NullLabelPromises:
    """Label -1 stands for no label."""

    def test_rows_without_label(self, generator: Any) -> None:
        """A row with label -1 is denoised as one without a condition, whatever the labels beside it."""
        optional = {"null-label", "unconditional"} & generator.provides
        if "class-conditional" not in generator.provides or not optional or not _denoises(generator):
            pytest.skip("has no labels that may be absent")
        cond = generator.conditions(torch.arange(ROWS))
        if cond is None or cond.labels_N is None:
            pytest.skip("draws soft class weights")
        every, some = torch.ones(ROWS, dtype=torch.bool), torch.arange(ROWS) % 2 == 0
        without = _denoised(generator, cond.null())
        error = _gap(_denoised(generator, cond.dropped(every)), without)
        assert error <= 1e-5, f"labels of -1 differ from no condition by {error:.3g}"
        mixed = _denoised(generator, cond.dropped(some))
        assert _gap(mixed[some], without[some]) <= 1e-4, "a row without label depends on the labels beside it"
        assert _gap(mixed[~some], _denoised(generator, cond)[~some]) <= 1e-4, "and so does one with a label"

    def test_filled_branch(self, generator: Any) -> None:
        """with_unconditional says that its branch without labels is trained, and changes nothing else."""
        _needs(generator, "null-label")
        filled, seeds_N = generator.with_unconditional(), torch.arange(ROWS)
        assert filled.provides == generator.provides | {"unconditional"}, (
            f"it provides {set(filled.provides)}"
        )
        assert torch.equal(drawn(filled, seeds_N), drawn(generator, seeds_N)), "it gives other samples"


class FeatureTrainablePromises:
    """The same architecture anew, conditioned on features."""

    def test_made_for_features(self, generator: Any) -> None:
        """for_features gives a new network on features, by its seed; the generator keeps its own."""
        _needs(generator, "feature-trainable")
        before = digest(generator.state_dict())
        made, again, other = (generator.for_features(WIDTH, seed) for seed in (0, 0, 1))
        assert {"feature-conditional", "null-label", "trainable"} <= made.provides, f"{set(made.provides)}"
        assert "class-conditional" not in made.provides, "it is class-conditional still"
        assert digest(made.state_dict()) == digest(again.state_dict()), "equal seeds give other weights"
        assert digest(made.state_dict()) != digest(other.state_dict()), "other seeds give equal weights"
        assert digest(generator.state_dict()) == before, "its own weights changed"
        assert made.x_shape == generator.x_shape, f"x has shape {made.x_shape}"

    def test_features_are_a_condition(self, generator: Any) -> None:
        """The network for features takes features row by row, and no condition as the zero vector."""
        _needs(generator, "feature-trainable")
        made = generator.for_features(WIDTH, 0)
        features_ND = NoiseSource(torch.arange(ROWS)).normal((ROWS, WIDTH), "features")
        D = _denoised(made, Condition(features_ND=features_ND))
        assert bool(D.isfinite().all()), "it is not finite"
        zero = _denoised(made, Condition(features_ND=torch.zeros(ROWS, WIDTH)))
        error = _gap(_denoised(made, Condition(count=ROWS)), zero)
        assert error <= 1e-5, f"no condition and the zero vector differ by {error:.3g}"
        draws = NoiseSource(torch.arange(ROWS), _device(made))
        loss_N = made.training_loss(_x(made), Condition(features_ND=features_ND.to(_device(made))), draws)
        assert loss_N.shape == (ROWS,), f"the loss has shape {tuple(loss_N.shape)}"
        assert bool(loss_N.isfinite().all()), "the loss is not finite"


class GuidedPromises:
    """A guidance scale, of which 1 is none."""

    def test_guidance(self, generator: Any) -> None:
        """Its scale can be changed: it is what was asked for, and other scales give other samples."""
        _needs(generator, "guided")
        keeps_guidance(generator)


def keeps_guidance(generator: Any) -> None:
    """Assert what `guided` promises."""
    seeds_N = torch.arange(ROWS)
    none, strong = (generator.with_guidance(scale) for scale in (1.0, STRONG))
    assert none.guidance == 1, f"asked for scale 1 it has {none.guidance}"
    assert strong.guidance == STRONG, f"asked for scale {STRONG} it has {strong.guidance}"
    same = generator.with_guidance(generator.guidance)
    assert close(drawn(same, seeds_N), drawn(generator, seeds_N)), "its own scale gives other samples"
    assert none.provides == generator.provides, "another scale provides something else"
    if _denoises(generator):
        cond = generator.conditions(seeds_N)
        assert _gap(_denoised(none, cond), _denoised(strong, cond)) > 0, "the scale changes nothing"


def _needs(generator: Any, word: str) -> None:
    if word not in generator.provides:
        pytest.skip(f"does not provide {word}")


def _denoises(generator: Any) -> bool:
    return "denoiser" in generator.provides


def _device(generator: Any) -> torch.device:
    return next((value.device for value in generator.state_dict().values()), torch.device("cpu"))


def _x(generator: Any) -> Tensor:
    """Return x like those of data: sigma_data wide."""
    noise = NoiseSource(torch.arange(ROWS), _device(generator))
    x: Tensor = noise.normal((ROWS, *generator.x_shape), "data") * generator.noise.sigma_data
    return x


def _denoised(generator: Any, cond: Condition | None) -> Tensor:
    """Return D at the noise level of the data's own width, where a condition matters most."""
    x = _x(generator)
    sigma_N = torch.full((ROWS,), generator.noise.sigma_data).to(x)
    with torch.no_grad():  # a guided denoiser may differentiate
        D: Tensor = generator.denoise(2 * x, sigma_N, cond.to(x.device) if cond is not None else None)
    return D.cpu()


def _gap(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, relative to the largest value where that is above one."""
    return float((a - b).abs().max()) / max(1.0, float(b.abs().max()))
