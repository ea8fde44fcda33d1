"""What stands in EDM2's label path: labels, none, or features; and what its configurations provide."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import genplug
from genplug.condition import Condition
from genplug_edm2.config import Edm2Config
from genplug_edm2.network import Precond

X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor([0.1, 0.5, 1.0, 3.0])


def denoised(generator: object, cond: Condition | None) -> torch.Tensor:
    with torch.inference_mode():
        D: torch.Tensor = generator.denoise(X, SIGMA, cond)  # type: ignore[attr-defined]
    return D


@pytest.fixture
def digits() -> genplug.DenoiserGenerator:
    generator: genplug.DenoiserGenerator = genplug.load("edm2.digits")  # type: ignore[assignment]
    return generator


def test_label_minus_one_is_no_label(digits: genplug.DenoiserGenerator) -> None:
    labels = Condition(labels_N=torch.tensor([3, -1, 7, -1]))
    mixed, none = denoised(digits, labels), denoised(digits, labels.null())
    with_labels = denoised(digits, Condition(labels_N=torch.tensor([3, 0, 7, 0])))
    torch.testing.assert_close(mixed[1::2], none[1::2])
    torch.testing.assert_close(mixed[::2], with_labels[::2])
    torch.testing.assert_close(none, denoised(digits, None))
    assert not torch.allclose(mixed[1::2], with_labels[1::2])


def test_words_of_each_configuration() -> None:
    def words(**values: object) -> frozenset[str]:
        return Edm2Config.model_validate(values).provides()

    trained = {"denoiser", "trainable", "feature-trainable"}
    assert words() == trained | {"class-conditional", "null-label"}
    assert words(unconditional=True) == words() | {"unconditional"}
    assert words(num_classes=0) == trained | {"unconditional"}
    assert words(guide="edm2.digits", guidance=2.0) == {"denoiser", "class-conditional", "guided"}
    assert words(guide="edm2.digits", guidance=1.0) == words()


def test_with_unconditional_says_so_and_changes_nothing_else(digits: genplug.DenoiserGenerator) -> None:
    said = digits.with_unconditional()
    assert said.provides == digits.provides | {"unconditional"}
    assert said.module is digits.module


def test_for_features_widens_the_label_path_and_nothing_else(digits: genplug.DenoiserGenerator) -> None:
    made = digits.for_features(6, seed=5)
    assert made.provides == (digits.provides - {"class-conditional"}) | {"feature-conditional"}
    shapes = {name: tuple(value.shape) for name, value in digits.state_dict().items()}
    shapes["unet.emb_label.weight"] = (shapes["unet.emb_label.weight"][0], 6)
    assert {name: tuple(value.shape) for name, value in made.state_dict().items()} == shapes
    assert made.conditions(torch.arange(3)) is None
    again, other = digits.for_features(6, seed=5), digits.for_features(6, seed=6)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in made.state_dict().items())
    assert not torch.equal(made.module.unet.out_conv.weight, other.module.unet.out_conv.weight)


def test_features_enter_with_unit_length_times_the_root_of_their_width(
    digits: genplug.DenoiserGenerator,
) -> None:
    """Methods 4.7: f / ||f|| times sqrt(D), then the linear layer; no features are the zero vector."""
    made = digits.for_features(6, seed=0)
    with torch.no_grad():
        for name, parameter in made.module.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(0.7)  # so that the embedding matters
    f = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1.0], [9], [0.1], [0]])
    seen: list[torch.Tensor] = []
    layer = made.module.unet.emb_label
    hook = layer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0] * kwargs["scale"]), with_kwargs=True
    )
    found = denoised(made, Condition(features_ND=f))
    hook.remove()
    lengths = seen[0].norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 1, 1, 0]) * math.sqrt(6))
    torch.testing.assert_close(denoised(made, Condition(features_ND=5 * f)), found)
    torch.testing.assert_close(found[3], denoised(made, None)[3])
    assert not torch.allclose(found[0], denoised(made, None)[0])


def test_features_of_another_width_are_refused(digits: genplug.DenoiserGenerator) -> None:
    with pytest.raises(ValueError, match="features are 5 wide; the network takes 6"):
        denoised(digits.for_features(6, seed=0), Condition(features_ND=torch.ones(4, 5)))
    with pytest.raises(ValueError, match="conditioned on features"):
        denoised(digits.for_features(6, seed=0), Condition(labels_N=torch.zeros(4, dtype=torch.int64)))


def test_a_network_without_labels_is_widened_too() -> None:
    generator = genplug.load("edm2.digits", num_classes=0, weights="none")
    made = generator.for_features(3, seed=0)  # type: ignore[attr-defined]
    assert isinstance(made.module, Precond)
    assert made.module.label_dim == 3
    assert denoised(made, Condition(features_ND=torch.ones(4, 3))).shape == X.shape
    assert replace(made.denoiser, half=False).label_rows(Condition(count=2)) is None
