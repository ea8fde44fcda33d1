"""The extractors: their features, and that they refuse what they cannot take."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genplug.errors import DataError
from genplug.loading import light_run
from genplug.samplesets import ArraySet, read_all
from genplug_digits.dataset import Digits
from genplug_features.config import DigitsClassifierConfig, PixelsConfig, RandomInceptionConfig


def features(config: object, samples: torch.Tensor) -> dict[str, torch.Tensor]:
    extractor = config.build(light_run())  # type: ignore[attr-defined]
    with torch.inference_mode():
        found: dict[str, torch.Tensor] = extractor(
            torch.stack([extractor.preprocess(sample) for sample in samples])
        )
    return found


def test_pixels_are_values_over_255_and_points_themselves() -> None:
    images = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    assert torch.allclose(features(PixelsConfig(), images)["features"], torch.tensor([[0.0, 1.0, 0.2, 0.4]]))
    points = torch.randn(3, 2)
    assert torch.equal(features(PixelsConfig(), points)["features"], points)


def test_random_inception_is_a_function_of_its_seed() -> None:
    images = read_all(Digits().split("held-out"))[:4]
    first, again, other = (
        features(RandomInceptionConfig(size=75, seed=s), images)["features"] for s in (1, 1, 2)
    )
    assert first.shape == (4, 2048)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert 1e-3 < float(first.std()) < 1e3


def test_the_shipped_classifier_knows_held_out_digits() -> None:
    held_out = Digits().split("held-out")
    found = features(DigitsClassifierConfig(), read_all(held_out))
    assert found["features"].shape == (500, 64)
    assert float((found["logits"].argmax(1) == held_out.labels).float().mean()) >= 0.97
    cosine = F.normalize(found["features"], dim=1) @ F.normalize(found["features"], dim=1).T
    same = held_out.labels[:, None] == held_out.labels[None]
    assert float(cosine[same].mean()) > float(cosine[~same].mean()) + 0.2


def test_the_classifier_refuses_other_images() -> None:
    with pytest.raises(DataError, match="takes 8x8 grey images, not"):
        features(DigitsClassifierConfig(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_features_are_cached_by_content_not_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    run = light_run()
    images = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8)
    first = run.features(ArraySet(images, name="a"), "pixels")
    refusing = Refusing(run.extractor("pixels").fingerprint)
    monkeypatch.setattr(type(run), "extractor", lambda self, name: refusing)
    assert torch.equal(run.features(ArraySet(images.clone(), name="b"), "pixels"), first)
    with pytest.raises(AssertionError, match="extracted"):
        run.features(ArraySet(255 - images, name="a"), "pixels")


class Refusing:
    """An extractor that must not be asked."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def preprocess(self, sample: torch.Tensor) -> torch.Tensor:
        raise AssertionError("extracted")
