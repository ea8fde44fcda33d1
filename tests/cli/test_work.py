"""`run`, `evaluate` and `sample` do their work: results on stdout, everything else on stderr."""

import json
import zipfile

import numpy as np
import pytest
from typer.main import get_command

from genplug.specs import arrow
from genplug_cli.main import app
from genplug_cli.sample import seed_span
from genplug_cli.scores import value_text
from genplug_cli.terminal import plain, table

RUN = ("run", "-g", "toy-grey", "-o", "toy-brighter")


def test_a_plan_names_what_would_run(genplug, here):
    outcome = genplug(*RUN, "--plan", "--set", "generator.shade=0.25")
    assert (outcome.code, outcome.err) == (0, "")
    assert "generator.shade = 0.25" in outcome.out
    assert "generator   toy-grey (genplug-mock 1.0)" in outcome.out
    assert "12 per generator in 2 seed blocks" in outcome.out
    assert not (here / "runs").exists()


def test_a_plan_as_json(genplug):
    plan = json.loads(genplug(*RUN, "--plan", "--json").out)
    assert plan["generator"]["name"] == "toy-grey"
    assert plan["evaluators"] == ["toy-gap"]


def test_a_run_prints_scores_and_paths(genplug):
    outcome = genplug(*RUN, "--out", "runs/x")
    assert outcome.code == 0
    head, row, *_ = outcome.out.splitlines()
    assert head.split() == ["score", "base", "improved", "floor"]
    assert row.startswith("toy-gap-toy-mean  ↓")
    assert row.count("±") == 3
    assert "runs/x/metrics.json" in outcome.out
    assert "sampling" in outcome.err


def test_a_run_as_json_with_quiet_stderr(genplug):
    outcome = genplug(*RUN, "--out", "runs/x", "--json", "--quiet")
    metrics = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert {"base", "improved", "floor", "run", "directory"} <= set(metrics)
    again = genplug(*RUN, "--out", "runs/x", "--json", "--quiet")
    assert json.loads(again.out)["improved"] == metrics["improved"]


def test_another_run_in_the_same_directory_is_refused(genplug):
    assert genplug(*RUN, "--out", "runs/x", "-q").code == 0
    outcome = genplug(*RUN, "--out", "runs/x", "--set", "generator.shade=0.1", "-q")
    assert (outcome.code, outcome.out) == (2, "")
    assert "generator.shade" in outcome.err
    assert outcome.err.count("\n") == 1
    assert genplug(*RUN, "--out", "runs/x", "--set", "generator.shade=0.1", "-q", "--force").code == 0


def test_another_process_of_a_launch_stays_silent(genplug, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    outcome = genplug("run", "-g", "toy-gray")
    assert (outcome.code, outcome.out, outcome.err) == (2, "", "")


def test_evaluate_prints_a_table(genplug):
    outcome = genplug("evaluate", "toy-data:held-out", "toy-data:train", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    head, row = outcome.out.splitlines()
    assert head.split() == ["score", "value", "generated", "real", "extractor", "interval"]
    assert row.startswith("toy-gap-toy-mean  ↓")
    assert row.split()[-5:] == ["32", "32", "toy-mean", "a", "guess"]


def test_evaluate_takes_options_of_evaluators(genplug):
    sets = ("toy-data:held-out", "toy-data:train", "--json", "--quiet")
    once = json.loads(genplug("evaluate", *sets).out)["toy-gap-toy-mean"]["value"]
    twice = json.loads(genplug("evaluate", *sets, "--set", "evaluator.toy-gap.scale=2").out)
    assert twice["toy-gap-toy-mean"]["value"] == pytest.approx(2 * once)


def test_samples_to_every_format_agree(genplug, here):
    asked = ("-n", "6", "--seeds", "3", "--batch", "4", "--quiet")
    for out in ("images", "x.npz", "x.zip"):
        outcome = genplug("sample", "toy-grey", "-o", out, *asked)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out == f"{out}: 6 samples of toy-grey, seeds 3 to 8\n"
    archive = np.load(here / "x.npz")
    assert archive["arr_0"].shape == (6, 4, 4, 1)
    assert archive["seeds"].tolist() == [3, 4, 5, 6, 7, 8]
    manifest = json.loads((here / "images" / "manifest.json").read_text())
    assert manifest["samples"][1] == {"index": 1, "seed": 4, "label": 1}
    assert "manifest.json" in zipfile.ZipFile(here / "x.zip").namelist()
    same = ("evaluate", "x.npz", "x.zip", "--json", "--quiet")
    assert json.loads(genplug(*same).out)["toy-gap-toy-mean"]["value"] == 0
    assert sorted(path.name for path in here.iterdir()) == ["images", "registry.toml", "x.npz", "x.zip"]


def test_existing_samples_are_never_overwritten(genplug):
    command = ("sample", "toy-grey", "-o", "x.npz", "-n", "2", "-q")
    assert genplug(*command).code == 0
    assert genplug(*command).err == "Error: x.npz exists; name another place\n"


def test_interrupted_sampling_continues_and_refuses_other_options(genplug, here, monkeypatch):
    from genplug_mock.things import GreySquares

    whole, calls = GreySquares.sample, []

    def second_fails(self, seeds_N, cond=None):
        calls.append(seeds_N.tolist())
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, seeds_N, cond)

    monkeypatch.setattr(GreySquares, "sample", second_fails)
    command = ("sample", "toy-grey", "-o", "x.npz", "-n", "4", "--batch", "2", "-q")
    assert genplug(*command).code == 130
    assert (here / ".x.npz.partial").is_dir()
    other = genplug(*command, "--set", "generator.shade=0.1")
    assert other.code == 2
    assert "unfinished samples of another command" in other.err
    assert genplug(*command).code == 0
    assert calls == [[0, 1], [2, 3], [2, 3]]


def test_samples_of_a_run(genplug, here):
    assert genplug(*RUN, "--out", "runs/x", "-q").code == 0
    assert genplug("sample", "runs/x:base", "-o", "base.npz", "-n", "4", "-q").code == 0
    outcome = genplug("sample", "runs/x:improved", "-o", "improved.npz", "-n", "4", "-q", "--json")
    assert json.loads(outcome.out)["seeds"] == [0, 3]
    base, improved = (np.load(here / f"{name}.npz")["arr_0"].mean() for name in ("base", "improved"))
    assert improved > base


def test_points_are_sampled_to_npz(genplug, here):
    assert genplug("sample", "toy-points", "-o", "p.npz", "-n", "3", "-q").code == 0
    assert np.load(here / "p.npz")["arr_0"].shape == (3, 2)


@pytest.mark.parametrize(
    ("seeds", "number", "span"),
    [("0", 5, (0, 5)), ("7", 2, (7, 2)), ("10:14", None, (10, 4)), ("1:3", 2, (1, 2))],
)
def test_seed_spans(seeds, number, span):
    assert seed_span(seeds, number) == span


def test_values_carry_their_uncertainty():
    assert value_text({"value": 3.14159, "low": 3.0, "high": 3.3}) == "3.142 [3, 3.3]"
    assert value_text({"value": 3.14159, "low": 3.0, "high": 3.3, "spread": 0.07}) == "3.142 ± 0.07"
    assert value_text({"value": None, "low": None, "high": None}) == "not finite"
    assert [arrow("lower"), arrow("higher"), arrow(0.5)] == ["↓", "↑", "→ 0.5"]


def test_json_has_no_numbers_that_are_not_finite():
    assert plain({"a": (float("nan"), 1.0), 2: float("inf")}) == {"a": [None, 1.0], "2": None}


def test_tables_align():
    assert table([("a", "bb"), ("ccc", "")], ("x", "y")) == "x    y\na    bb\nccc"


def test_commands_have_about_ten_flags():
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert len(command.params) <= (18 if name == "run" else 14), name
