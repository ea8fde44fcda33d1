"""The FID Inception: the features of torch-fidelity and pytorch-fid given the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from genplug.checkpoints import save_weights
from genplug.errors import WeightsError
from genplug.extractors import build_extractor
from genplug.loading import light_run
from genplug.receipts import Receipt, write_receipt
from genplug.testing.workplace import resolve_part
from genplug.weights import fetched_path
from genplug_features.config import InceptionFidConfig
from genplug_features.inception_fid import NAMES, PRESET, SHA256, InceptionFid

TOLERANCE = 1e-4  # of the largest feature


def built(**options: object) -> InceptionFid:
    return InceptionFidConfig(**options).build(light_run())


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights under the published names, statistics of the normalisations included."""
    generator = torch.Generator().manual_seed(1)
    state = {name: value.clone() for name, value in built().state_dict().items()}
    for name, value in state.items():
        if name.endswith(("bn.weight", "running_var")):
            value.uniform_(0.7, 1.3, generator=generator)
        elif name.endswith(("bias", "running_mean")):
            value.normal_(0, 0.1, generator=generator)
    return state


@pytest.fixture(scope="module")
def published(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a file of torch."""
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def images() -> Tensor:
    blocks = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    return blocks.repeat_interleave(16, 2).repeat_interleave(16, 3).to(torch.uint8)


def seen(extractor: InceptionFid, images: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        return extractor(torch.stack([extractor.preprocess(image) for image in images]))


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def test_features_are_those_of_torch_fidelity(
    state: dict[str, Tensor], published: Path, images: Tensor
) -> None:
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    layers = ["2048", "logits_unbiased", "64", "192", "768"]
    theirs = FeatureExtractorInceptionV3("ours", layers, feature_extractor_weights_path=str(published))
    maps: list[Tensor] = []
    theirs.Mixed_6d.register_forward_hook(lambda module, given, output: maps.append(output))
    extractor = built()
    extractor.load_state_dict(extractor.adapt(state))
    found = seen(extractor, images)
    with torch.inference_mode():
        expected = theirs(images)
    names = ("features", "logits", "pool64", "pool192", "pool768")
    for name, value in zip(names, expected, strict=True):
        assert error(found[name], value) < TOLERANCE, name
    assert found["spatial"].shape == (2, 2023)
    assert error(found["spatial"], maps[0][:, :7].reshape(2, -1)) < TOLERANCE


def test_features_are_those_of_pytorch_fid(state: dict[str, Tensor], images: Tensor) -> None:
    pytest.importorskip("pytorch_fid")
    from pytorch_fid import inception

    with mock.patch.object(inception, "load_state_dict_from_url", return_value=state):
        theirs = inception.InceptionV3().eval()
    extractor = built(resize="half-pixel")
    extractor.load_state_dict(state)
    with torch.inference_mode():
        expected = theirs(images.float() / 255)[0].flatten(1)
    assert error(seen(extractor, images)["features"], expected) < TOLERANCE


def test_the_faster_form_is_the_same_function(state: dict[str, Tensor]) -> None:
    extractor = built(size=91)
    extractor.load_state_dict(state)
    batch = torch.rand(2, 3, 91, 91) * 2 - 1
    with torch.inference_mode():
        plain, quick = extractor.network(batch), extractor(batch)
    assert plain.keys() == quick.keys()
    for name in plain:
        assert error(quick[name], plain[name]) < 1e-5, name


def test_the_published_file_is_read_and_must_be_whole(
    state: dict[str, Tensor], published: Path, tmp_path: Path
) -> None:
    part = resolve_part("extractor", "inception-fid", {"size": 75, "weights": str(published)})
    found = build_extractor(light_run(), part).state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    short = tmp_path / "short.pth"
    torch.save({name: value for name, value in state.items() if name != "Mixed_7c.branch1x1.bn.bias"}, short)
    part = resolve_part("extractor", "inception-fid", {"size": 75, "weights": str(short)})
    with pytest.raises(WeightsError, match=r"missing Mixed_7c\.branch1x1\.bn\.bias"):
        build_extractor(light_run(), part)


def fetched(state: Mapping[str, Tensor], sha256: str) -> None:
    """Place weights as `genplug fetch` does, made of a published file with this digest."""
    weights = fetched_path(PRESET)
    save_weights(state, weights)
    write_receipt(
        weights,
        Receipt(
            preset=PRESET, address="", licence=None, sha256=sha256, bytes=0, verified=True,
            weights_sha256="", weights_bytes=0, when="",
        ),
    )  # fmt: skip


def test_scores_are_called_fid_only_for_the_published_file_and_its_resize(state: dict[str, Tensor]) -> None:
    def names(changed: bool = False, **options: object) -> Mapping[str, str]:
        extractor = built(**options)
        extractor.load_state_dict({**state, "fc.bias": state["fc.bias"] + 1} if changed else state)
        return extractor.score_names

    assert names() == {}
    fetched(state, "0" * 64)
    assert names() == {}
    fetched(state, SHA256)
    assert names() == NAMES
    assert NAMES["fd"] == "fid"
    assert names(changed=True) == {}
    assert names(resize="half-pixel") == {}
    assert names(size=150) == {}
    assert built().score_names == {}
