"""Any timm model: its outputs by name, positions for another size, where its weights are, what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genplug.config import nest, validate
from genplug.errors import ConfigError
from genplug.loading import light_run
from genplug.presets import registry
from genplug.registry import catalog
from genplug.specs import ExtractorSpec, Preset
from genplug_features.config import TimmConfig
from genplug_features.timm_models import TimmModel

ROOT = Path(__file__).parents[2]
VIT = {"depth": 1, "embed_dim": 32, "num_heads": 2, "num_classes": 5}
PRESETS = [preset for preset in registry(catalog()).presets.values() if preset.kind == "extractor"]


def built(model: str, **options: Any) -> TimmModel:
    return TimmConfig(model=model, **options).build(light_run())


def outputs(extractor: TimmModel) -> dict[str, Tensor]:
    batch = torch.randn(2, 3, extractor.image.size, extractor.image.size)
    with torch.inference_mode():
        return {**extractor(batch), "maps": extractor.network.forward_features(batch)}


def test_a_transformer_has_token_mean_map_and_logits() -> None:
    architecture = {**VIT, "img_size": 56}
    found = outputs(
        built("vit_small_patch14_reg4_dinov2.lvd142m", features="patch-mean", architecture=architecture)
    )
    tokens = found["maps"]
    assert tokens.shape == (2, 1 + 4 + 16, 32)  # class token, registers, patches
    assert next(iter(found)) == "patch-mean"
    assert torch.allclose(found["patch-mean"], tokens[:, 5:].mean(1), atol=1e-6)
    assert torch.equal(found["cls"], tokens[:, 0])
    assert torch.equal(found["spatial"].reshape(2, 32, 4, 4)[:, :, 1, 2], tokens[:, 5 + 6])
    assert found["logits"].shape == (2, 5)


@pytest.mark.parametrize(
    ("model", "architecture"),
    [
        ("test_resnet.r160_in1k", {}),
        ("swin_tiny_patch4_window7_224", {"depths": [1, 1], "embed_dim": 16, "num_heads": [1, 1]}),
    ],
)
def test_maps_are_channels_first_whatever_the_network_does(model: str, architecture: dict[str, Any]) -> None:
    extractor = built(model, architecture=architecture)
    found = outputs(extractor)
    maps, width = found["maps"], extractor.network.num_features
    x_NCHW = maps if maps.shape[1] == width else maps.permute(0, 3, 1, 2)
    assert torch.equal(found["spatial"], x_NCHW.flatten(1))
    assert torch.allclose(found["patch-mean"], x_NCHW.mean((2, 3)), atol=1e-6)
    assert torch.allclose(found["penultimate"], found["patch-mean"], atol=1e-5)
    assert "cls" not in found
    missing = built(model, features="cls", architecture=architecture)
    with pytest.raises(ConfigError, match=r"has no output 'cls' \(it has penultimate, patch-mean"):
        outputs(missing)


def bicubic(table_HW: np.ndarray, count: int, scale: float) -> np.ndarray:
    """Keys' cubic with a = -0.75 at (i + 0.5) / scale - 0.5, edges repeated: along both axes, in float64."""
    a, size = -0.75, len(table_HW)
    weights = np.zeros((count, size))
    for i in range(count):
        at = (i + 0.5) / scale - 0.5
        first = math.floor(at)
        for tap in range(first - 1, first + 3):
            x = abs(at - tap)
            near = ((a + 2) * x - (a + 3)) * x * x + 1
            far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
            weights[i, min(max(tap, 0), size - 1)] += near if x <= 1 else far
    return weights @ table_HW @ weights.T


def test_positions_of_dinov2_are_sampled_as_its_code_does() -> None:
    """A grid of 6 x 6 becomes 4 x 4 at a scale of 4.1 / 6, without antialiasing; the class token's stays."""
    options = {"features": "cls", "positions": "dinov2", "layout": "dinov2"}
    whole = built("vit_small_patch14_dinov2.lvd142m", architecture={**VIT, "img_size": 84}, **options)
    small = built(
        "vit_small_patch14_dinov2.lvd142m", size=56, architecture={**VIT, "img_size": 84}, **options
    )
    state = whole.state_dict()
    assert small.state_dict()["pos_embed"].shape == state["pos_embed"].shape == (1, 37, 32)
    small.load_state_dict(state)
    assert torch.equal(small.state_dict()["pos_embed"], state["pos_embed"])
    table_HWD, found = state["pos_embed"][0, 1:].reshape(6, 6, 32), small.network.pos_embed
    assert torch.equal(found[:, 0], state["pos_embed"][:, 0])
    for channel in (0, 31):
        expected = bicubic(table_HWD[..., channel].double().numpy(), 4, 4.1 / 6)
        assert np.allclose(found[0, 1:, channel].reshape(4, 4).numpy(), expected, atol=1e-6)
    assert outputs(small)["spatial"].shape == (2, 32 * 16)


def test_fingerprints_follow_weights_and_preprocessing() -> None:
    plain, other = (built("test_resnet.r160_in1k", seed=seed) for seed in (0, 1))
    again = built("test_resnet.r160_in1k")
    assert plain.fingerprint == again.fingerprint != other.fingerprint
    other.load_state_dict(plain.state_dict())
    assert other.fingerprint == plain.fingerprint
    for options in ({"crop": 0.5}, {"features": "spatial"}, {"layout": "haiku"}):
        assert built("test_resnet.r160_in1k", **options).fingerprint != plain.fingerprint


def test_timms_own_weights_are_known_by_name() -> None:
    preset = TimmConfig(model="vit_small_patch16_224.augreg_in21k_ft_in1k").preset()
    assert preset is not None
    assert preset.name == "timm.vit-small-patch16-224.augreg-in21k-ft-in1k"
    assert preset.address == "hf:timm/vit_small_patch16_224.augreg_in21k_ft_in1k/model.safetensors"
    assert preset.licence == "apache-2.0"
    assert preset.reference == "timm:vit_small_patch16_224.augreg_in21k_ft_in1k"
    assert TimmConfig(model="resnet50.a1_in1k", architecture={"num_classes": 3}).preset() is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet5O", "timm has no model 'resnet5O'; did you mean 'resnet50'?"),
        ("resnet50.a1_in1", r"timm has no weights 'resnet50.a1_in1'; did you mean 'resnet50.a1_in1k'?"),
    ],
)
def test_an_unknown_model_is_answered_with_the_nearest(model: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        built(model)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"architecture": {"depht": 2}},
            "timm cannot make 'test_resnet.r160_in1k' with architecture {'depht'",
        ),
        ({"rounded": False, "interpolation": "lanczos"}, "rounded=false needs interpolation bilinear or"),
    ],
)
def test_options_that_cannot_be_met_are_refused_in_a_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        built("test_resnet.r160_in1k", **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_ready_name_is_a_preset_with_weights_licence_and_what_its_spec_says(preset: Preset) -> None:
    entry = catalog().get("extractor", preset.family)
    assert isinstance(entry.spec, ExtractorSpec)
    config = validate(entry.config_model(), nest(dict(preset.values)), preset.name)
    assert preset.address
    assert preset.licence
    if not isinstance(config, TimmConfig):
        return
    assert config.features == entry.spec.outputs[0]
    if preset.address.startswith("hf:timm/"):
        known = TimmConfig(model=config.model).preset()
        assert known is not None
        assert known.address == preset.address


def test_every_ready_name_has_a_preset_that_is_meant_by_it() -> None:
    names = {preset.name for preset in PRESETS}
    meant = {
        entry.spec.name: entry.spec.preset for entry in catalog() if isinstance(entry.spec, ExtractorSpec)
    }
    assert {preset for preset in meant.values() if preset} <= names
    assert {name.partition(".")[0] for name in names} == {name for name, preset in meant.items() if preset}


def test_each_ready_name_is_documented_with_its_presets_and_outputs() -> None:
    rows = {
        cells[0].strip(" `"): cells
        for line in (ROOT / "docs/extractors.md").read_text().splitlines()
        if line.startswith("| `") and len(cells := line.strip("|").split("|")) == 6
    }
    for entry in catalog():
        if isinstance(entry.spec, ExtractorSpec) and entry.package.name == "genplug":
            name = entry.spec.name if entry.spec.argument is None else f"{entry.spec.name}:MODEL"
            tags = {preset.name.partition(".")[2] for preset in PRESETS if preset.family == entry.spec.name}
            # `b-reg` is told as "each with `-reg`"
            missing = [tag for tag in tags if f"`{tag.removesuffix('-reg')}`" not in rows[name][1]]
            assert missing == [], name
            if len(tags) > 1:
                assert f"**`{entry.spec.preset.partition('.')[2]}`**" in rows[name][1], name
            told = re.findall(r"`([\w-]+)`", rows[name][3])
            assert set(told) <= set(entry.spec.outputs), name
