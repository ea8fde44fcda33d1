"""The package torch-fidelity gives the same FID, KID, Inception Score, precision and recall for two folders.

Both networks get the same random weights in the layout of the published file. Settings are chosen so that
nothing is drawn: one part, one subset of all images. Its FID takes the square roots of eigenvalues that are
zero but for rounding where there are fewer images than features, so 64 features of an early layer serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genplug
from genplug.protocols import Score
from genplug_features.config import InceptionFidConfig
from genplug_features.inception_fid import InceptionFid

torch_fidelity = pytest.importorskip("torch_fidelity")
COUNT = 16
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")


def write_images(directory: Path, seed: int, brighter: int) -> None:
    """Write coarse noise, so that images differ in more than their finest detail."""
    directory.mkdir()
    g = np.random.default_rng(seed)
    for number in range(COUNT):
        coarse = np.kron(g.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1)))
        pixels = (coarse + g.normal(0, 20, (64, 64, 3)) + brighter).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(directory / f"{number:02d}.png")


def told_apart(extractor: InceptionFid, place: Path) -> dict[str, torch.Tensor]:
    """Return the weights with a last layer that ignores what the features of all images share."""
    images = [torch.from_numpy(np.array(Image.open(place / name / "00.png"))) for name in ("real", "fake")]
    batch = torch.stack([extractor.preprocess(image.permute(2, 0, 1)) for image in images])
    with torch.inference_mode():
        shared_D = torch.nn.functional.normalize(extractor(batch)["features"].mean(0), dim=0)
    weights = dict(extractor.state_dict())
    last = weights["fc.weight"]
    weights["fc.weight"] = 100 * (last - torch.outer(last @ shared_D, shared_D))
    return weights


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two folders of images and weights whose classes differ between images."""
    place = tmp_path_factory.mktemp("fidelity")
    write_images(place / "real", 0, 0)
    write_images(place / "fake", 1, 30)
    extractor = InceptionFid(InceptionFidConfig(), torch.device("cpu"))
    torch.save(told_apart(extractor, place), place / "weights.pth")
    return place


@pytest.fixture(scope="module")
def theirs(place: Path) -> Mapping[str, float]:
    scores: Mapping[str, float] = torch_fidelity.calculate_metrics(
        input1=str(place / "fake"),
        input2=str(place / "real"),
        **dict.fromkeys(("isc", "fid", "kid", "prc"), True),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(place / "weights.pth"),
        feature_layer_fid="64",
        feature_layer_prc="2048",
        isc_splits=1,
        kid_subsets=1,
        kid_subset_size=COUNT,
        **dict.fromkeys(("cuda", "cache", "verbose"), False),
    )
    return scores


@pytest.fixture(scope="module")
def ours(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Score]:
    options = {
        "extractor.inception-fid.weights": str(place / "weights.pth"),
        "evaluator.prdc.k": 3,
        "evaluator.frechet.groups": 2,
        "evaluator.inception-score.splits": 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENPLUG_CACHE", str(tmp_path_factory.mktemp("cache")))
        return genplug.evaluate(
            place / "real",
            place / "fake",
            evaluators=["frechet", "kernel", "inception-score", "prdc"],
            extractors=["inception-fid", "inception-fid@pool64"],
            options=options,
        )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("fd-inception-fid@pool64", "frechet_inception_distance"),
        ("kd-inception-fid", "kernel_inception_distance_mean"),
        ("inception-score-inception-fid", "inception_score_mean"),
        ("precision-inception-fid", "precision"),
        ("recall-inception-fid", "recall"),
    ],
)
def test_both_give_the_same(
    ours: Mapping[str, Score], theirs: Mapping[str, float], name: str, key: str
) -> None:
    assert ours[name].value == pytest.approx(theirs[key], rel=1e-4)


def test_the_scores_are_not_those_of_nothing(ours: Mapping[str, Score]) -> None:
    """Random weights are not called FID; and each score could have told two sets apart."""
    assert not {"fid", "kid"} & set(ours)
    assert ours["inception-score-inception-fid"].value > 1.1
    assert 0 < ours["precision-inception-fid"].value < 1
    assert ours["kd-inception-fid"].value > 0.01
