"""Images reach networks through the filters that published scores used, to the last bit where that can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from genplug.loading import light_run
from genplug_features.config import TimmConfig
from genplug_features.preprocessing import Recipe, resized_as_tensorflow_1

SHAPES = ((3, 64, 64), (3, 40, 97), (3, 300, 130), (1, 50, 31), (3, 224, 224), (3, 7, 300))


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for shape in SHAPES]


def as_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("test_resnet.r160_in1k", None),  # center, crop 0.95
        ("resnet18.tv_in1k", None),  # bilinear
        ("test_vit.r160_in1k", "squash"),
        ("test_vit.r160_in1k", "border"),
    ],
)
def test_a_timm_model_sees_what_its_own_transform_gives(model: str, mode: str | None) -> None:
    from timm.data import create_transform, resolve_model_data_config

    extractor = TimmConfig(model=model, mode=mode).build(light_run())
    own = resolve_model_data_config(extractor.network) | ({"crop_mode": mode} if mode else {})
    theirs = create_transform(**own, is_training=False)
    for image in images():
        kept = image.clone()
        assert torch.equal(extractor.preprocess(image), theirs(as_pillow(image))), tuple(image.shape)
        assert torch.equal(image, kept)


def test_fd_dinov2_squashes_to_224_with_pillows_bicubic_on_8_bits() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    recipe = Recipe(224, mode="squash", mean=mean, std=std)
    for image in images():
        small = as_pillow(image).resize((224, 224), Image.Resampling.BICUBIC)
        unit = torch.from_numpy(np.array(small)).float() / 255
        expected = (unit - torch.tensor(mean)) / torch.tensor(std)
        assert torch.equal(recipe(image), expected.permute(2, 0, 1)), tuple(image.shape)


def test_without_rounding_it_is_resized_in_float() -> None:
    recipe = Recipe(24, mode="squash", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), rounded=False)
    image = images()[0]
    expected = F.interpolate(image[None].float(), (24, 24), mode="bicubic", antialias=True)[0] / 255
    assert torch.allclose(recipe(image), expected, atol=1e-6)
    assert float((recipe(image) * 255 % 1).std()) > 0.1


def test_tensorflow_1_samples_at_the_corner_of_a_pixel() -> None:
    """Output i of 4 lies at input i * 2 / 4, and the last input is repeated: by hand."""
    image = torch.tensor([[[0, 100], [40, 200]]], dtype=torch.uint8)
    assert resized_as_tensorflow_1(image, 4)[0].tolist() == [
        [0.0, 50.0, 100.0, 100.0],
        [20.0, 85.0, 150.0, 150.0],
        [40.0, 120.0, 200.0, 200.0],
        [40.0, 120.0, 200.0, 200.0],
    ]


def test_tensorflow_1_bilinear_is_that_of_torch_fidelity_to_the_bit() -> None:
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    for image in images():
        theirs = interpolate_bilinear_2d_like_tensorflow1x(
            image[None].float(), size=(299, 299), align_corners=False
        )[0]
        assert torch.equal(resized_as_tensorflow_1(image, 299), theirs), tuple(image.shape)
