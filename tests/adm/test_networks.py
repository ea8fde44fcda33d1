"""The networks of guided-diffusion: sizes, options, conditioning (golden outputs: tests/parity_adm.py)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genplug.checkpoints import load_strict
from genplug.errors import ConfigError, WeightsError
from genplug_adm.classifier import CLASSIFIERS, classifier_options
from genplug_adm.config import AdmConfig
from genplug_adm.layers import AttentionBlock, AttentionPool2d, timestep_embedding
from genplug_adm.unet import EncoderUNetModel, UNetModel

SMALL: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 2,
    "model_channels": 16,
    "out_channels": 3,
    "num_res_blocks": 1,
    "attention_resolutions": (2,),
    "channel_mult": (1, 2),
    "num_head_channels": 8,
}


def made(kind: type[nn.Module], **options: Any) -> nn.Module:
    """Return a small network whose silent layers are not silent."""
    torch.manual_seed(0)
    net = kind(**SMALL | options)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return net.eval()


def given(n: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, 8, 8, generator=generator), torch.tensor([3.0, 700.5])[:n]


def parameters(kind: type[nn.Module], **options: Any) -> float:
    """Return millions of parameters, without allocating them."""
    with torch.device("meta"):
        return sum(p.numel() for p in kind(**options).parameters()) / 1e6


def test_networks_are_of_the_published_sizes() -> None:
    """Parameters of table 4 of the ADM paper (arXiv 2105.05233): 296 M at 64 pixels, 554 M at 256."""
    assert parameters(UNetModel, **AdmConfig().network()) == pytest.approx(296, abs=0.5)
    at_256 = AdmConfig(
        resolution=256,
        model_channels=256,
        num_blocks=2,
        channel_mult=(1, 1, 2, 2, 4, 4),
        new_attention_order=False,
    )
    assert parameters(UNetModel, **at_256.network()) == pytest.approx(554, abs=0.5)


@pytest.mark.parametrize("size", CLASSIFIERS)
def test_published_classifiers_end_on_a_grid_of_eight(size: int) -> None:
    with torch.device("meta"):
        net = EncoderUNetModel(**classifier_options(size))
    pool = net.out[2]
    assert isinstance(pool, AttentionPool2d)
    assert pool.positional_embedding.shape == (512, 8 * 8 + 1)
    assert pool.c_proj.out_channels == 1000


@pytest.mark.parametrize(
    "options",
    [
        {"use_scale_shift_norm": True, "resblock_updown": True},
        {"conv_resample": False, "attention_resolutions": ()},
        {"num_head_channels": -1, "num_heads": 2, "num_heads_upsample": 4},
        {"use_new_attention_order": True, "dropout": 0.1, "channel_mult": (0.5, 1, 2)},
    ],
)
def test_every_option_builds_a_network(options: dict[str, Any]) -> None:
    x, t = given()
    assert made(UNetModel, **options)(x, t).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("pool", ["attention", "adaptive", "spatial"])
def test_every_head_gives_logits_of_each_image_alone(pool: str) -> None:
    net = made(EncoderUNetModel, pool=pool)
    x, t = given()
    logits_NK = net(x, t)
    assert logits_NK.shape == (2, 3)
    torch.testing.assert_close(net(x[1:], t[1:]), logits_NK[1:])


def test_a_new_unet_returns_zero() -> None:
    torch.manual_seed(0)
    assert not UNetModel(**SMALL)(*given()).any()


def test_one_hot_weights_are_labels_and_zero_weights_no_label() -> None:
    net = made(UNetModel, num_classes=4)
    x, t = given()
    torch.testing.assert_close(net(x, t, torch.eye(4)[[2, 0]]), net(x, t, torch.tensor([2, 0])))
    with torch.no_grad():
        net.label_emb.weight[3] = 0
    torch.testing.assert_close(net(x, t, torch.zeros(2, 4)), net(x, t, torch.tensor([3, 3])))
    with pytest.raises(ValueError, match="labels"):
        net(x, t)
    with pytest.raises(ValueError, match="labels"):
        made(UNetModel)(x, t, torch.tensor([0, 1]))


def test_the_two_attention_orders_differ_by_a_permutation_of_channels() -> None:
    torch.manual_seed(0)
    old, new = AttentionBlock(16, 2), AttentionBlock(16, 2, new_order=True)
    nn.init.normal_(old.proj_out.weight)
    state = old.state_dict()
    for name in ("qkv.weight", "qkv.bias"):  # (head, q/k/v, c) to (q/k/v, head, c)
        state[name] = state[name].unflatten(0, (2, 3, 8)).transpose(0, 1).flatten(0, 2)
    new.load_state_dict(state)
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(new(x), old(x))


def test_attention_is_softmax_of_scaled_products() -> None:
    """One head, written out."""
    torch.manual_seed(0)
    block, x = AttentionBlock(16, 1), torch.randn(1, 16, 2, 2)
    nn.init.normal_(block.proj_out.weight)
    q, k, v = block.qkv(block.norm(x).flatten(2)).chunk(3, dim=1)
    share = torch.einsum("nct,ncs->nts", q, k).div(4).softmax(-1)
    expected = x + block.proj_out(torch.einsum("nts,ncs->nct", share, v)).reshape_as(x)
    torch.testing.assert_close(block(x), expected)


def test_checkpointing_changes_no_gradient() -> None:
    x, t = given()
    gradients = []
    for use_checkpoint in (False, True):
        net = made(UNetModel, use_checkpoint=use_checkpoint)
        net(x, t).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    torch.testing.assert_close(*gradients)


def test_the_timestep_embedding_starts_with_cosines_and_ends_an_odd_width_with_zero() -> None:
    emb = timestep_embedding(torch.tensor([0.0, 2.5]), 5)
    assert torch.equal(emb[0], torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]))
    assert float(emb[1, 0]) == pytest.approx(torch.tensor(2.5).cos())
    assert float(emb[1, 3]) == pytest.approx(torch.tensor(2.5 / 100).sin())


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="32 channels do not divide into heads of 12 channels"):
        UNetModel(**SMALL | {"num_head_channels": 12})
    net = made(UNetModel)
    with pytest.raises(WeightsError, match="missing out"):
        load_strict(net, {k: v for k, v in net.state_dict().items() if k != "out.2.bias"}, "adm")
