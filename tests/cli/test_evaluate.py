"""`genplug evaluate` as users type it: forms of the result, references to extractors, statistics files."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

DIGITS = (
    "evaluate",
    "digits:held-out",
    "digits:train",
    "--evaluator",
    "frechet",
    "--extractor",
    "pixels",
    "-q",
)


def test_csv_and_json_have_the_same_numbers(genplug):
    found = json.loads(genplug(*DIGITS, "--json").out)
    (row,) = csv.DictReader(io.StringIO(genplug(*DIGITS, "--csv").out))
    score = found["fd-pixels"]
    assert float(row["value"]) == score["value"]
    assert float(row["low"]) == score["low"]
    assert (row["score"], row["better"], row["extractor"]) == ("fd-pixels", "lower", "pixels")
    assert (int(row["generated"]), int(row["real"])) == (1297, 500)
    assert found["run"]["real"] == {
        "name": "digits:held-out",
        "count": 500,
        "shape": [1, 8, 8],
        "classes": 10,
    }
    assert found["run"]["real and generated"]["copies"] == 0


def test_cached_features_are_shown_as_such(genplug):
    first, second = genplug(*DIGITS).out, genplug(*DIGITS).out
    assert "cached" not in first
    assert "cached features: pixels of digits:held-out, pixels of digits:train" in second
    assert first.splitlines()[1] == second.splitlines()[1]


def test_a_page_has_the_table_and_the_samples(genplug, here):
    command = ("evaluate", "digits:held-out", "digits:train", "--evaluator", "prdc", "--quiet")
    assert genplug(*command, "--html", "x.html").code == 0
    page = (here / "x.html").read_text()
    for words in (
        "precision-pixels",
        "precision-digits-classifier",
        "data:image/png",
        "digits:held-out",
        "1,297",
    ):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    for bad in ("nowhere/x.html", "samples.npz"):
        outcome = genplug(*command, "--html", bad)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)


def test_the_list_says_what_is_needed(genplug):
    text = genplug("evaluate", "--list").out
    assert "held_out|statistics" in text
    found = json.loads(genplug("evaluate", "--list", "--json").out)
    frechet = next(one for one in found["evaluators"] if one["name"] == "frechet")
    assert frechet["scores"] == {"fd": "lower"}
    pixels = next(one for one in found["extractors"] if one["name"] == "pixels")
    assert (pixels["outputs"], pixels["weights"]) == (["features"], "none needed")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "digits:train"), "name two sample sets"),
        ((*DIGITS, "--json", "--csv"), "--json and --csv both print on stdout"),
        ((*DIGITS[:5], "--extractor", "pixels@logits"), "extractor 'pixels' has no output 'logits'"),
        ((*DIGITS[:5], "--extractor", "digits-classifier.big"), "no preset named 'digits-classifier.big'"),
        ((*DIGITS, "--train", "a", "--reference", "b"), "not both"),
    ],
)
def test_mistakes_are_one_line(genplug, words, said):
    outcome = genplug(*words)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_statistics_stand_in_for_the_samples_they_are_of(genplug, here):
    make = ("statistics", "digits:held-out", "held-out.npz", "--extractor", "digits-classifier")
    outcome = genplug(*make)
    assert outcome.code == 0
    assert "64 digits-classifier features of 500 samples" in outcome.out
    command = ("--evaluator", "frechet", "--extractor", "digits-classifier", "--quiet", "--json")
    by_file = json.loads(genplug("evaluate", "held-out.npz", "digits:train", *command).out)
    by_samples = json.loads(genplug("evaluate", "digits:held-out", "digits:train", *command).out)
    value = by_samples["fd-digits-classifier"]["value"]
    assert by_file["fd-digits-classifier"]["value"] == pytest.approx(value, rel=1e-9)
    assert genplug(*make).err == "Error: held-out.npz exists; name another file, or replace it with --force\n"
    other = genplug(
        "evaluate", "held-out.npz", "digits:train", "--evaluator", "frechet", "--extractor", "pixels"
    )
    assert other.code == 2
    assert "has statistics of digits-classifier, not of the features of pixels" in other.err
    images = genplug(
        "evaluate", "held-out.npz", "digits:train", "--evaluator", "prdc", "--extractor", "pixels"
    )
    assert "evaluator 'prdc' needs held_out, which is not given" in images.err


def test_fewer_samples_than_features_is_told_with_its_effect(genplug, here):
    np.savez("few.npz", arr_0=np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8))
    outcome = genplug(*DIGITS[:2], "few.npz", *DIGITS[3:])
    assert outcome.code == 0
    assert "12" in outcome.err
    assert "64" in outcome.err


def test_statistics_of_a_reference_batch_go_before_its_images(genplug, here):
    """They are of more images than the batch holds; scores on samples use the images."""
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    genplug("statistics", "digits:train", "train.npz", "--extractor", "pixels")
    with np.load("train.npz") as known:
        np.savez("batch.npz", arr_0=images, **known)
    command = ("evaluate", "batch.npz", "digits:held-out", "--extractor", "pixels", "--quiet", "--json")
    found = json.loads(genplug(*command, "--evaluator", "frechet", "--evaluator", "prdc").out)
    whole = json.loads(genplug("evaluate", "digits:train", *command[2:], "--evaluator", "frechet").out)
    assert found["fd-pixels"]["extra"]["reference"] == "statistics"
    assert found["fd-pixels"]["value"] == pytest.approx(whole["fd-pixels"]["value"], rel=1e-9)
    assert found["recall-pixels"]["n_real"] == 30
