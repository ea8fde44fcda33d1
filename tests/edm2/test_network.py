"""EDM2 network, loss and latents against golden data; kept weights are never stale."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from genplug.errors import GenplugError
from genplug.random import NoiseSource
from genplug_edm2 import codecs
from genplug_edm2.layers import MPConv, force_normalize_, forget_folded_, normalize
from genplug_edm2.loss import draw_sigma, edm2_loss
from genplug_edm2.network import Precond

GOLDEN = Path(__file__).parents[1] / "golden"


class Golden:
    """One golden file: tensors by name and the JSON beside them."""

    def __init__(self, name: str) -> None:
        self.tensors = load_file(GOLDEN / f"{name}.safetensors")
        with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
            self.meta = json.loads(file.metadata()["meta"])

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def net(self, name: str = "net") -> Precond:
        net = Precond(**self.meta["nets"][name]["kwargs"])
        prefix = "weights/" + self.meta["nets"][name]["prefix"]
        weights = {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}
        net.load_state_dict(weights, strict=True)
        return net.eval()


def assert_close(actual: Tensor, expected: Tensor, times_std: float = 5e-5) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= times_std * expected.std()


@pytest.mark.parametrize("grad", [False, True])
def test_outputs_equal_the_published_network(grad: bool) -> None:
    golden = Golden("edm2_unet_a")
    net, x, sigma, labels = golden.net(), golden["in/x"], golden["in/sigma"], golden["in/labels"]
    with torch.set_grad_enabled(grad):
        for _ in range(2):  # computed, then kept
            D, logvar = net(x, sigma, labels, return_logvar=True)
            assert_close(D, golden["out/D_x"])
            torch.testing.assert_close(logvar, golden["out/logvar"], rtol=1e-5, atol=1e-5)
            assert_close(net(x, sigma), golden["out/D_x_uncond"])
            assert_close(net(x, sigma, torch.full_like(labels, 0.25)), golden["out/D_x_softlabel"])
            assert_close(net.raw(x, sigma, labels), golden["out/F_x"])


def test_published_snapshot_loads_and_agrees() -> None:
    golden = Golden("edm2_tiny_snapshot")
    net, inputs = golden.net(), [golden[f"in/{k}"] for k in ("x", "sigma", "labels")]
    with torch.no_grad():
        assert_close(net(*inputs), golden["out/D_x_fp32"])
        assert_close(net(*inputs), golden["out/D_x"], 5e-3)


def test_one_sigma_serves_the_whole_batch() -> None:
    net, x = tiny(), torch.randn(3, 2, 8, 8)
    torch.testing.assert_close(net(x, torch.tensor(0.7)), net(x, torch.full((3,), 0.7)))


def test_every_constructor_option_is_accepted() -> None:
    options = {
        "channel_mult_noise": 1,
        "channel_mult_emb": 2,
        "label_balance": 0.4,
        "concat_balance": 0.6,
        "res_balance": 0.2,
    }
    options |= {
        "attn_balance": 0.4,
        "clip_act": None,
        "dropout": 0.1,
        "use_fp16": True,
        "resample_filter": [1, 3, 3, 1],
    }
    net = tiny(**options).train()
    assert net(torch.randn(2, 2, 8, 8), torch.ones(2), torch.eye(3)[:2]).shape == (2, 2, 8, 8)


def test_loss_per_element_equals_the_published_one() -> None:
    golden = Golden("edm2_loss_a")
    kwargs = golden.meta["loss_kwargs"]
    sigma = draw_sigma(golden["in/rnd_normal"].flatten(), kwargs["P_mean"], kwargs["P_std"])
    torch.testing.assert_close(sigma, golden["out/sigma"])
    loss = edm2_loss(golden.net(), golden["in/images"], sigma, golden["in/noise"], golden["in/labels"])
    assert_close(loss, golden["out/loss"])


@pytest.mark.parametrize("explicit", [False, True])
def test_training_step_equals_the_published_one(explicit: bool) -> None:
    """Forced normalisation in forward (training mode), or called beforehand in evaluation mode."""
    golden = Golden("edm2_loss_a")
    net = golden.net()
    if explicit:
        force_normalize_(net)
    else:
        net.train()
    loss = edm2_loss(net, golden["in/images"], golden["out/sigma"], golden["in/noise"], golden["in/labels"])
    loss.sum().backward()
    assert_close(loss, golden["out/loss_train"])
    named = dict(net.named_parameters())
    for key in golden.meta["after_keys"]:
        torch.testing.assert_close(named[key].detach(), golden[f"out/weight_after/{key}"])
    for key in golden.meta["grad_keys"]:
        expected = golden[f"out/grad/{key}"]
        assert (named[key].grad - expected).abs().max() <= 2e-4 * expected.abs().max(), key


def test_two_forwards_before_backward_work_in_training_mode() -> None:
    """The gradient of the sum is the sum of the gradients."""
    net, x = tiny().train(), torch.randn(2, 2, 8, 8)
    sigmas = torch.ones(2), torch.full((2,), 2.0)
    (net(x, sigmas[0]).sum() + net(x, sigmas[1]).sum()).backward()
    weight = net.unet.out_conv.weight
    together = weight.grad.clone()
    net.zero_grad()
    for sigma in sigmas:
        net(x, sigma).sum().backward()
    torch.testing.assert_close(together, weight.grad)


def test_training_normalises_again_after_each_optimiser_step() -> None:
    net, x = tiny().train(), torch.randn(2, 2, 8, 8)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(x, torch.ones(2)).square().mean().backward()
        for layer in convs(net.unet):
            torch.testing.assert_close(layer.weight.square().mean(), torch.tensor(1.0), rtol=1e-3, atol=0)
        optimizer.step()


def test_weights_that_are_normalised_already_are_left_alone_in_training() -> None:
    """A training that continues from a saved state has to see the digits that were saved."""
    net = tiny().train()
    for _ in range(2):  # the random start, and a step
        force_normalize_(net)
    fresh = tiny().train()
    fresh.load_state_dict(net.state_dict())
    fresh(torch.randn(2, 2, 8, 8), torch.ones(2))
    for name, value in net.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


def tiny(**options: Any) -> Precond:
    torch.manual_seed(0)
    kwargs: dict[str, Any] = {
        "model_channels": 8,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [4],
    }
    kwargs |= {"channels_per_head": 8, "logvar_channels": 8, "use_fp16": False}
    net = Precond(8, 2, 3, **(kwargs | options)).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(0.7)
    return net


def convs(net: nn.Module) -> list[MPConv]:
    return [m for m in net.modules() if isinstance(m, MPConv)]


def predict(net: Precond) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 2, 8, 8, generator=generator)
    with torch.no_grad():
        D: Tensor = net(x, torch.tensor([0.5, 2.0]), torch.eye(3)[:2])
    return D


def optimizer_step(net: Precond) -> None:
    predict_with_grad = net(torch.ones(2, 2, 8, 8), torch.ones(2), torch.eye(3)[:2])
    predict_with_grad.square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


def fused_adam_step(net: Precond) -> None:
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(net.parameters(), lr=0.1, fused=True).step()


def load_other_weights(net: Precond) -> None:
    net.load_state_dict({k: v + 0.1 for k, v in net.state_dict().items()})


def assign_other_weights(net: Precond) -> None:
    net.load_state_dict({k: v + 0.1 for k, v in net.state_dict().items()}, assign=True)


@torch.no_grad()
def edit_one_element(net: Precond) -> None:
    net.unet.out_conv.weight[0, 0, 0, 0] += 1


@torch.no_grad()
def edit_gain(net: Precond) -> None:
    net.unet.out_gain.add_(0.1)


@torch.no_grad()
def interpolate_towards_noise(net: Precond) -> None:
    for parameter in net.parameters():
        parameter.lerp_(torch.randn_like(parameter), 0.1)


def write_through_data(net: Precond) -> None:
    for parameter in net.parameters():
        parameter.data.mul_(torch.randn(parameter.shape))


def write_gain_through_data(net: Precond) -> None:
    net.unet.out_gain.data.mul_(2)


def replace_data(net: Precond) -> None:
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape)


def replace_parameter(net: Precond) -> None:
    net.unet.out_conv.weight = nn.Parameter(torch.randn(net.unet.out_conv.weight.shape))


def round_trip_through_half(net: Precond) -> None:
    net.half().float()


@torch.inference_mode()
def edit_in_inference_mode(net: Precond) -> None:
    net.unet.out_conv.weight.add_(torch.randn(net.unet.out_conv.weight.shape))


CHANGES = [
    optimizer_step,
    fused_adam_step,
    load_other_weights,
    assign_other_weights,
    edit_one_element,
    edit_gain,
    interpolate_towards_noise,
    write_through_data,
    write_gain_through_data,
    replace_data,
    replace_parameter,
    round_trip_through_half,
    edit_in_inference_mode,
    lambda net: force_normalize_(net.train()),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_kept_weights_follow_every_change(change: Any) -> None:
    net = tiny()
    predict(net)
    change(net)
    actual = predict(net.eval())
    forget_folded_(net)
    torch.testing.assert_close(actual, predict(net), rtol=0, atol=0)


def test_kept_weights_notice_an_edit_that_the_address_hides() -> None:
    """Two replacements in a row could put new data at the old address."""
    net = tiny()
    for seed in range(5):
        torch.manual_seed(seed)
        replace_data(net)
        fresh = tiny()
        fresh.load_state_dict(net.state_dict())
        torch.testing.assert_close(predict(net), predict(fresh), rtol=0, atol=0)


def test_kept_weights_are_used() -> None:
    net = tiny()
    predict(net)
    kept = [layer._memo.folded for layer in convs(net)]
    predict(net)
    used = [layer for layer in convs(net) if layer is not net.logvar_linear]
    assert all(layer._memo.folded is not None for layer in used)
    assert all(a is layer._memo.folded for a, layer in zip(kept, convs(net), strict=True))


def test_copies_and_pickles_start_without_kept_weights() -> None:
    net = tiny()
    expected = predict(net)
    assert not [key for key in net.state_dict() if "memo" in key]
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(buffer, weights_only=False)]
    for other in copies:
        assert all(layer._memo.folded is None for layer in convs(other))
        torch.testing.assert_close(predict(other), expected, rtol=0, atol=0)
        interpolate_towards_noise(other)
        assert not torch.equal(predict(other), expected)
    torch.testing.assert_close(predict(net), expected, rtol=0, atol=0)


def test_double_precision_after_single() -> None:
    layer = MPConv(4, 5, (3, 3)).eval()
    x = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        single = layer(x)
        assert layer(x.double()).dtype == torch.float64
        torch.testing.assert_close(layer(x.double()).float(), single)


def test_weights_kept_in_inference_mode_serve_later_gradients() -> None:
    net = tiny().requires_grad_(False)
    with torch.inference_mode():
        net(torch.zeros(1, 2, 8, 8), torch.ones(1))
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    net(x, torch.ones(1)).sum().backward()
    assert x.grad is not None


def test_weights_made_in_inference_mode_work() -> None:
    with torch.inference_mode():
        net = tiny()
        predict(net)
        interpolate_towards_noise(net)
        fresh = tiny()
        fresh.load_state_dict(net.state_dict())
        torch.testing.assert_close(predict(net), predict(fresh))


def test_functional_call_uses_the_given_weights() -> None:
    net, x = tiny(), torch.randn(1, 2, 8, 8)
    weights = {k: torch.randn_like(v) for k, v in net.named_parameters()}
    with torch.no_grad():
        before = net(x, torch.ones(1))
        swapped = torch.func.functional_call(net, weights, (x, torch.ones(1)))
        after = net(x, torch.ones(1))
    assert not torch.equal(before, swapped)
    torch.testing.assert_close(before, after, rtol=0, atol=0)


def test_gradients_flow_in_evaluation_mode_after_inference() -> None:
    net = tiny()
    predict(net)
    net(torch.ones(2, 2, 8, 8), torch.ones(2)).sum().backward()
    assert all(p.grad is not None for name, p in net.unet.named_parameters() if name != "emb_label.weight")


def test_normalize_puts_eps_outside_the_root() -> None:
    x = torch.full((1, 4), 1e-4)
    torch.testing.assert_close(normalize(x), torch.full((1, 4), 0.5))


class FakeVae:
    """Returns given posteriors and images, remembers what it was fed."""

    def __init__(
        self, mean: Tensor | None = None, std: Tensor | None = None, image: Tensor | None = None
    ) -> None:
        self.mean, self.std, self.image, self.seen = mean, std, image, []

    def encode(self, x: Tensor) -> dict[str, Any]:
        self.seen.append(x)
        return {"latent_dist": type("Posterior", (), {"mean": self.mean, "std": self.std})}

    def decode(self, z: Tensor) -> dict[str, Any]:
        self.seen.append(z)
        return {"sample": self.image}


def test_latents_equal_the_published_ones() -> None:
    golden = Golden("edm2_stability_vae_encode_a")
    mean, std = golden["in/vae_raw"].chunk(2, dim=1)
    vae = FakeVae(mean, std, golden["in/vae_decoder_output"])
    codec = codecs.StabilityVae(vae)
    pixels = golden["in/pixels"].to(torch.uint8)
    codec.posterior(pixels)
    latents = codec.standardise(golden["in/vae_raw"], golden["in/vae_noise"])
    torch.testing.assert_close(latents, golden["out/vae_final"], rtol=0, atol=1e-6)
    torch.testing.assert_close(vae.seen[0], golden["out/vae_encoder_input"], rtol=0, atol=1e-6)
    images = codec.decode(golden["in/vae_final_in"])
    assert images.dtype == torch.uint8
    assert torch.equal(images.long(), golden["out/vae_decode_uint8"])
    torch.testing.assert_close(vae.seen[1], golden["out/vae_decode_raw"], rtol=1e-6, atol=1e-6)


def test_missing_diffusers_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(GenplugError, match="pip install diffusers"):
        codecs.StabilityVae().decode(torch.zeros(1, 4, 2, 2))


def test_latents_depend_on_each_images_own_seed() -> None:
    mean, std = torch.randn(2, 4, 2, 2), torch.ones(2, 4, 2, 2)
    images, seeds = torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.tensor([3, 9])
    both = codecs.StabilityVae(FakeVae(mean, std)).encode(images, NoiseSource(seeds))
    second = codecs.StabilityVae(FakeVae(mean[1:], std[1:])).encode(images[1:], NoiseSource(seeds[1:]))
    assert torch.equal(both[1:], second)
    mean_only = codecs.StabilityVae(FakeVae(mean, std)).encode(images)
    assert torch.equal(
        mean_only, codecs.StabilityVae(FakeVae(mean, std * 0)).encode(images, NoiseSource(seeds))
    )
    assert not torch.equal(mean_only, both)
