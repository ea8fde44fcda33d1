"""What is told of two sample sets before they are scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genplug
from genplug.comparing import class_distance
from genplug.errors import ConfigError, DataError


def write_images(folder: Path, count: int, seed: int, size: int = 8) -> Path:
    folder.mkdir(parents=True)
    pixels = torch.randint(
        0, 256, (count, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    for number, image in enumerate(pixels):
        Image.fromarray(image.numpy()).save(folder / f"{number:03d}.png")
    return folder


def judged(real: object, generated: object, **more: object) -> genplug.evaluation.Evaluation:  # type: ignore[name-defined]
    return genplug.evaluate(real, generated, evaluators=["fake-gap"], extractors=["pixels"], **more)  # type: ignore[arg-type]


def test_a_file_in_both_sets_is_told(tmp_path: Path) -> None:
    real, fake = write_images(tmp_path / "real", 6, 0), write_images(tmp_path / "fake", 6, 1)
    (fake / "003.png").write_bytes((real / "001.png").read_bytes())
    found = judged(real, fake)
    assert found.facts["real and generated"]["copies"] == 1
    assert found.facts["warnings"] == [f"{fake} has 1 exact copies of samples of {real}: 003.png"]


def test_copies_are_found_across_kinds_of_sets(tmp_path: Path) -> None:
    real = write_images(tmp_path / "real", 4, 0)
    image = torch.from_numpy(np.array(Image.open(real / "002.png")))[None, None]
    found = judged(real, torch.cat([image, 255 - image]))
    assert found.facts["real and generated"]["copies"] == 1
    assert "sample 0" in found.facts["warnings"][0]


def test_uneven_classes_are_told_and_chance_is_not(tmp_path: Path) -> None:
    for name, counts in {"real": (30, 30), "even": (27, 33), "uneven": (55, 5)}.items():
        for label, count in enumerate(counts):
            write_images(tmp_path / name / str(label), count, seed=hash((name, label)) % 1000)
    even, uneven = (judged(tmp_path / "real", tmp_path / name) for name in ("even", "uneven"))
    assert even.facts["real and generated"]["class_distance"] == pytest.approx(0.05)
    assert even.facts["warnings"] == []
    assert uneven.facts["real and generated"]["class_distance"] == pytest.approx(25 / 60)
    assert "classes are not equally frequent" in uneven.facts["warnings"][0]


def test_the_distance_by_chance_is_what_chance_gives() -> None:
    g = torch.Generator().manual_seed(0)
    draws = [torch.randint(0, 10, (200,), generator=g) for _ in range(200)]
    pairs = [class_distance(a, b) for a, b in zip(draws[::2], draws[1::2], strict=True)]
    distance, noise = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    assert distance == pytest.approx(noise, rel=0.05)


def test_mixed_sizes_are_an_option_that_is_told(tmp_path: Path) -> None:
    real, fake = write_images(tmp_path / "real", 4, 0, size=8), write_images(tmp_path / "fake", 4, 1, size=10)
    Image.new("L", (12, 9)).save(fake / "wide.png")
    with pytest.raises(DataError, match=r"mixes image sizes.*--mixed-sizes"):
        judged(real, fake)
    options = {"run.mixed_sizes": True, "extractor.random-inception.size": 75}
    found = genplug.evaluate(
        real, fake, evaluators=["fake-gap"], extractors=["random-inception"], options=options
    )
    assert [text for text in found.facts["warnings"] if "of several sizes" in text]
    assert "gap-random-inception" in found
    with pytest.raises(DataError, match="pixels needs samples of one size"):
        judged(real, fake, options={"run.mixed_sizes": True})


def test_sets_of_two_sizes_need_the_option_too(tmp_path: Path) -> None:
    real, fake = write_images(tmp_path / "real", 4, 0, size=8), write_images(tmp_path / "fake", 4, 1, size=10)
    with pytest.raises(DataError, match=r"bring both to one size with one filter,.*--mixed-sizes"):
        judged(real, fake)


def test_real_may_be_what_was_trained_on_and_reference_held_out() -> None:
    train, held, fake = (torch.randn(60, 2, generator=torch.Generator().manual_seed(s)) for s in range(3))
    by_train = genplug.evaluate(held, fake, train=train, evaluators=["irs"], extractors=["pixels"])
    by_reference = genplug.evaluate(train, fake, reference=held, evaluators=["irs"], extractors=["pixels"])
    assert {name: score.value for name, score in by_train.items()} == {
        name: score.value for name, score in by_reference.items()
    }
    with pytest.raises(DataError, match="not both"):
        genplug.evaluate(held, fake, train=train, reference=train)


def test_grey_and_colour_are_compared_in_colour_and_it_is_said(tmp_path: Path) -> None:
    grey = write_images(tmp_path / "grey", 6, 0)
    colour = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    found = judged(colour, grey)
    assert [text for text in found.facts["warnings"] if "grey read as RGB" in text]
    assert judged(grey, colour)["gap-pixels"].value == pytest.approx(found["gap-pixels"].value)


def test_an_extractor_that_does_not_resize_is_told_from_sets_of_two_sizes(tmp_path: Path) -> None:
    real, fake = write_images(tmp_path / "real", 4, 0, size=8), write_images(tmp_path / "fake", 4, 1, size=10)
    with pytest.raises(DataError, match=r"pixels gives 64 features for .*real and 100 for .*fake"):
        judged(real, fake, options={"run.mixed_sizes": True})


def test_arrays_are_taken_and_other_things_refused_in_a_line() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), np.uint8)
    assert judged(images, images)["gap-pixels"].value == 0
    with pytest.raises(DataError, match=r"samples must be a path, .* not NoneType"):
        judged(None, images)
    with pytest.raises(ConfigError, match="evaluators must be a list of names, not 'frechet'"):
        genplug.evaluate(images, images, evaluators="frechet")
    with pytest.raises(DataError, match="images and points cannot be compared"):
        judged(images, torch.zeros(4, 2))


def test_labels_may_be_any_numbers() -> None:
    distance, _ = class_distance(torch.tensor([-1, -1, 7]), torch.tensor([-1, 7, 7]))
    assert distance == pytest.approx(1 / 3)
