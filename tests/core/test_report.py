"""The report says what the numbers say, escapes what it is given, and needs nothing beside itself."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genplug.figures import number, picture_grid, ticks
from genplug.registry import Catalog, Package
from genplug.report import MOST_POINTS, read_curves, thinned, write_report
from genplug.samplesets import ArraySet
from genplug.specs import EvaluatorSpec
from genplug.verdicts import find_score, judge_score, paired

NASTY = "<script>alert('x')</script>&\""
VOID = {"meta", "img", "br", "input", "hr", "link"}


@dataclass
class FakeRun:
    """What a report needs of a `Run`."""

    directory: Path | None
    catalog: Catalog = field(default_factory=Catalog)
    resolved: object = None
    real: object = None

    def __post_init__(self):
        scores = {"fd": "lower", "fd-infinity": "lower"}
        for name, given in {"frechet": scores, "prdc": {"recall": "higher"}, "auth": {"auth": 0.5}}.items():
            self.catalog.add(EvaluatorSpec(name=name, summary="", config="", scores=given), Package("p", "1"))

    def dataset(self, split):
        assert split == "held-out"
        return self.real


@dataclass
class FakeResolved:
    evaluators: tuple = ()


def score(value, spread=0.002, blocks=3, **more):
    values = [value + spread * (i - (blocks - 1) / 2) for i in range(blocks)]
    made = {
        "value": value,
        "low": value - 2 * spread,
        "high": value + 2 * spread,
        "interval": "2 sd <of> blocks",
    }
    made |= {"n_generated": 500, "n_real": 500, "seeds": "0-499", "extractor": "pixels", "extra": {}}
    return made | ({"spread": spread, "blocks": values} if blocks > 1 else {}) | more


def metrics(base, improved, floor, name="fd-pixels"):
    facts = {
        "generator": {"name": "edm2", "preset": "edm2.digits", "note": NASTY},
        "objectives": [{"name": "ddo"}],
        "dataset": {"name": "digits"},
        "seed": 0,
        "seeds": ["1048576-1049075"],
        "quantised_to_levels": 17,
        "versions": {"genplug": "0.1.0", "torch": "2.9"},
        "plugins": ["genplug 0.1.0", NASTY],
    }
    sets = {"base": base, "improved": improved, "floor": floor}
    return {key: {name: value} for key, value in sets.items() if value} | {"run": facts}


def said(base, improved, floor=None, name="fd-pixels"):
    verdict = judge_score(name, metrics(base, improved, floor, name), find_score(FakeRun(None), name))
    return verdict.kind, verdict.text


def images(n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ArraySet(samples, torch.arange(n) % 10)


def points(seed):
    return ArraySet(torch.randn(300, 2, generator=torch.Generator().manual_seed(seed)))


def write_training(directory):
    for number_, steps in ((1, 1000), (2, 30)):
        folder = directory / f"stages/1-ddo/round-{number_}/fit-1"
        folder.mkdir(parents=True)
        rows = [
            {
                "step": t + 1,
                "loss": math.exp(-t / 99),
                "log_ratio_real": 0.01 * t,
                "log_ratio_fake": -0.02 * t,
            }
            for t in range(steps)
        ]
        rows[3]["loss"] = math.inf
        (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "stages/1-ddo/round-3.partial").mkdir()
    (directory / "stages/1-ddo/round-3.partial/curve.jsonl").write_text('{"step": 1, "loss": 2}\n')
    history = [
        {"round": 0, "label": "base", "chosen": False, "score": 0.12, "blocks": [0.11, 0.13]},
        {"round": 1, "label": f"step-5 {NASTY}", "chosen": True, "score": 0.10, "blocks": [0.10, 0.10]},
        {"round": 1, "label": "step-9", "chosen": False, "score": 0.11, "blocks": [0.10, 0.12]},
        {"round": 2, "label": "step-7", "chosen": False, "score": None, "blocks": [None, 0.12]},
    ]
    (directory / "stages/1-ddo/selection.json").write_text(json.dumps(history))


class Balanced(HTMLParser):
    """Fails on tags that do not close, and keeps what is seen."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.addresses = [], set(), []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_whole(directory):
    """Check that the page is well formed, needs no network or script, and that its pictures exist."""
    page = (directory / "report.html").read_text(encoding="utf-8")
    seen = Balanced(page)
    assert "script" not in seen.tags
    assert all(address.startswith("data:") for address in seen.addresses)
    assert "nan" not in re.sub(r"<style>.*?</style>|base64,[^\"]*", "", page).lower()
    for path in (directory / "figures").glob("*.svg"):
        assert (
            "nan" not in ElementTree.tostring(ElementTree.parse(path).getroot(), encoding="unicode").lower()
        )
    assert not list(directory.rglob(".*.[0-9]*"))
    return page


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run.toml").write_text(f"[run]\nseed = 0\n# {NASTY}\n")
    return FakeRun(tmp_path)


def test_better_is_said_with_the_excess_over_the_floor():
    kind, text = said(score(0.121), score(0.098), score(0.076))
    assert kind == "better"
    assert text == "fd-pixels: 0.121 → 0.098, better: excess over the floor down 51 % (floor 0.076)"


def test_worse_is_called_worse():
    kind, text = said(score(0.098), score(0.121), score(0.076))
    assert kind == "worse"
    assert "0.098 → 0.121, worse: excess over the floor up 105 %" in text


def test_a_difference_below_twice_the_larger_spread_is_no_difference():
    kind, text = said(score(0.121, 0.001), score(0.115, 0.004), score(0.076))
    assert kind == "within"
    assert "within the spread: 0.006 is less than 2 × spread, 0.008" in text


def test_one_block_is_judged_by_its_interval_and_without_one_not_at_all():
    assert said(score(0.12, 0.02, 1), score(0.10, 0.02, 1))[0] == "within"
    assert said(score(0.12, 0.002, 1), score(0.10, 0.002, 1))[0] == "better"
    kind, text = said(score(0.12, 0, 1), score(0.10, 0, 1))
    assert (kind, "shows nothing" in text) == ("unknown", True)


def test_a_control_is_told_beside_the_floor():
    found = metrics(score(1.0), score(0.5), score(0.1)) | {"control": {"fd-pixels": score(0.9)}}
    text = judge_score("fd-pixels", found, find_score(FakeRun(None), "fd-pixels")).text
    assert text.endswith("(floor 0.1, control 0.9)")


@pytest.mark.parametrize(
    ("name", "base", "improved", "kind"),
    [
        ("recall-pixels", 0.5, 0.7, "better"),
        ("recall-pixels", 0.7, 0.5, "worse"),
        ("auth", 0.9, 0.4, "better"),
        ("auth", 0.5, 0.9, "worse"),
        ("stranger", 0.5, 0.9, "unknown"),
        ("fd-pixels", 0.5, None, "unknown"),
        ("fd-pixels", 0.5, 0.5, "within"),
    ],
)
def test_the_direction_is_the_evaluators(name, base, improved, kind):
    given = score(improved) if improved is not None else score(0.5) | {"value": None}
    assert said(score(base), given, score(0.6), name)[0] == kind


def test_beyond_the_floor_no_percentage_is_given():
    assert "now at the floor or past it" in said(score(0.121), score(0.070), score(0.076))[1]
    assert "base was at the floor or past it" in said(score(0.070), score(0.060), score(0.076))[1]
    assert "down 50 %" in said(score(0.5), score(0.7), score(0.9), "recall-pixels")[1]


def test_differences_are_taken_block_by_block():
    given = metrics(score(0.5, blocks=2), score(0.4, blocks=2) | {"blocks": [0.4, None]}, None)
    assert paired(given, "fd-pixels") == pytest.approx([0.4 - 0.499])
    assert paired(metrics(score(0.5, blocks=1), score(0.4), None), "fd-pixels") == []
    assert paired(metrics(score(0.5), None, None), "fd-pixels") == []


def test_the_longest_score_name_that_fits_is_found():
    run = FakeRun(None)
    assert find_score(run, "fd-pixels").first
    assert not find_score(run, "fd-infinity-pixels").first
    assert find_score(run, "auth").better == 0.5
    assert find_score(run, "fdx").better is None


def test_a_report_on_images_is_whole(run):
    write_training(run.directory)
    given = metrics(score(0.121), score(0.098), score(0.076))
    for key, value in (("base", 0.3), ("improved", 0.2)):
        given[key][f"odd-{NASTY}"] = score(value)
    path = write_report(run, given, {"base": images(), "improved": images(seed=1)})
    page = check_whole(run.directory)
    assert path == run.directory / "report.html"
    names = {p.name for p in (run.directory / "figures").iterdir()}
    assert {"score-fd-pixels.svg", "samples.png", "curve-1-ddo-loss.svg", "selection-1-ddo.svg"} <= names
    assert "0.121 → 0.098, better" in page
    assert "17 grey levels" in page
    assert "alert(&#x27;x&#x27;)" in page
    assert "<script" not in page
    assert f"genplug run --config {run.directory}/run.toml --out {run.directory}-again" in page
    assert "(chosen)" in page
    assert page.count("(chosen)") == 1
    assert 'class="ring"' in page


def test_a_run_without_objectives_and_curves_has_a_report(run):
    given = metrics(score(0.121), None, score(0.076))
    write_report(run, given, {"base": images()})
    page = check_whole(run.directory)
    assert "0.121, nothing to compare it with (floor 0.076)" in page
    assert "Training" not in page
    assert "Selection" not in page


def test_a_run_without_scores_or_floor_has_a_report(run):
    write_report(run, metrics(None, None, None) | {"base": {}, "floor": {}}, {"base": images(3)})
    check_whole(run.directory)


def test_points_are_scattered_with_real_ones_behind(run):
    run.resolved, run.real = FakeResolved(), points(9)
    write_report(run, metrics(score(1), score(0.5), None), {"base": points(0), "improved": points(1)})
    page = check_whole(run.directory)
    assert "improved, real points in grey behind" in page
    assert {"samples-base.svg", "samples-real.svg"} <= {p.name for p in (run.directory / "figures").iterdir()}


def test_a_second_report_replaces_the_first(run):
    for improved in (0.1, 0.2):
        write_report(
            run, metrics(score(0.15), score(improved), None), {"base": images(), "improved": images()}
        )
    assert ", worse" in check_whole(run.directory)


def test_curves_are_found_by_stage_and_thinned(run):
    write_training(run.directory)
    curves = read_curves(run.directory)
    assert list(curves) == ["1-ddo"]
    assert list(curves["1-ddo"]) == ["round-1/fit-1", "round-2/fit-1"]
    steps, values = thinned([{"step": t, "y": float(t)} for t in range(1000)], "y")
    assert len(steps) <= MOST_POINTS
    assert values[:2] == [1.0, 4.0]
    assert steps[-1] == 999
    assert thinned([{"step": 1, "y": math.nan}, {"step": 2}], "y") == ([], [])


def test_the_grid_shows_pairs_by_class_enlarged_whole_times():
    base = ArraySet(torch.full((4, 1, 8, 8), 10, dtype=torch.uint8), torch.tensor([1, 0, 1, 0]))
    improved = ArraySet(torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 8, 8) + 100)
    base_only = picture_grid({"base": base})
    sheet = np.asarray(picture_grid({"base": base, "improved": improved}))
    assert Image.fromarray(sheet).mode == "RGBA"
    assert sheet.shape == (18 + 2 * 82, 3 * 146 - 14, 4)
    assert (sheet[32:96, :64, 0] == 10).all()
    places = [(40, 66), (40, 146 + 66), (40, 2 * 146 + 66), (82 + 40, 66)]
    assert [int(sheet[place][0]) for place in places] == [101, 103, 100, 102]
    assert base_only.width == 4 * 80 - 14


def test_large_images_are_reduced():
    large = ArraySet(torch.zeros(2, 3, 512, 256, dtype=torch.uint8))
    assert picture_grid({"base": large}).size == (2 * (64 + 16) - 14, 18 + 146)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-0.013, 0.02), (0.69313, 0.69316), (3e5, 9e6), (-1e-9, 1e-9)]
)
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 6
    assert all(low <= t <= high for t in found)
    assert all(len(f"{t:.8g}".lstrip("-")) <= 10 for t in found)


def test_numbers_have_four_digits():
    assert [number(v) for v in (0.12345, 12.3456, 12345.6, None)] == [
        "0.1235",
        "12.35",
        "12346",
        "not finite",
    ]
