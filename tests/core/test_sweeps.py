"""Sweeps: one run, one model per value; what does not depend on the value is done once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

import genplug
from genplug.config import read_toml
from genplug.errors import GenplugError, RunDirectoryError
from genplug.parts import Resolved
from genplug.resolving import resolve
from genplug.sweeps import read_sweep
from genplug.tradeoff import Swept, best_of, pairs
from genplug.verdicts import Known

POINTS: dict[str, Any] = {
    "dataset": "fake-rings",
    "extractors": ["pixels"],
    "evaluators": ["frechet", "prdc"],
}
SMALL = [("run.samples", 20), ("run.blocks", 1), ("run.batch_size", 10)]
TRAIN = [("objective.1.train.steps", 3), ("objective.1.train.batch_size", 8)]
CHAIN = {"generator": "fake-points", "objectives": ["pretrain", "fake-shrink"], **POINTS}
SWEEP = "objective.2.factor=0.5:1:0.25"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "x"
    genplug.run(resolved=asked(), out=out)
    return out


def asked() -> Resolved:
    return resolve(**CHAIN, sets=[*SMALL, *TRAIN, ("run.control", True)], sweep=SWEEP)


def metrics_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1:4:0.5", (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)),
        ("1:2:0.1", tuple(round(1 + i / 10, 1) for i in range(11))),
        ("3:1:-1", (3, 2, 1)),
        ("1,2,5", (1, 2, 5)),
        ("0.5", (0.5,)),
        ("heun, euler", ("heun", "euler")),
    ],
)
def test_values_are_a_range_with_its_ends_or_a_list(text: str, values: tuple[Any, ...]) -> None:
    sweep = read_sweep(f"objective.scale={text}", {})
    assert sweep is not None
    assert sweep.values == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("objective.factor", "expected KEY=START:STOP:STEP or KEY=A,B,C"),
        ("run.samples=1,2", "options of objectives are swept"),
        ("objective.factor=1:0:0.5", "empty, there is no value from 1 to 0 by 0.5"),
        ("objective.factor=0:1:0", "empty"),
        ("objective.factor=a:b:c", "START:STOP:STEP must be numbers"),
        ("objective.factor=0:1:nan", "START:STOP:STEP must be numbers"),
        ("objective.factor=0:1:0.01", "101 values; at most 64"),
        ("objective.factor=" + ",".join(f"0.{i:03}" for i in range(65)), "65 values; at most 64"),
        ("objective.factor=0.5,,1", "expected numbers or words"),
        ("objective.factor=0.5,0.50", "0.5 is there twice"),
        ("objective.fctor=0.5,1", "unknown key 'objective.fctor' (from sweep objective.fctor); did you mean"),
        ("objective.factor=0.5,3", "bad value for 'objective.factor' (from sweep objective.factor)"),
        ("objective.2.factor=0.5", "objective 2 is meant, but there is 1"),
    ],
)
def test_a_bad_sweep_is_one_line_before_any_work(text: str, said: str) -> None:
    with pytest.raises(GenplugError) as caught:
        resolve(generator="fake-points", objectives=["fake-shrink"], **POINTS, sweep=text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sweep_has_a_model_per_value_and_a_control_each(swept: Path) -> None:
    values = ["factor=0.5", "factor=0.75", "factor=1"]
    controls = [f"control-{value}" for value in values]
    assert set(metrics_of(swept)) == {"base", *values, *controls, "floor", "run"}
    assert metrics_of(swept)["control-factor=0.5"] == metrics_of(swept)["factor=1"]


def test_what_does_not_depend_on_the_value_is_done_once(swept: Path) -> None:
    made = {path.name for path in (swept / "generator").iterdir()}
    assert {name for name in made if "control" not in name} == {
        "1-pretrain",
        *(f"2-fake-shrink-factor={value}" for value in ("0.5", "0.75", "1")),
    }


def test_what_the_swept_objective_shares_is_done_once(swept: Path) -> None:
    """As fake-shrink does with what does not depend on its factor."""
    assert len(list(swept.glob("stages/shared/nothing-*/done"))) == 1
    assert not list(swept.glob("stages/2-*"))


def test_a_value_gives_what_a_run_of_its_own_gives(swept: Path, tmp_path: Path) -> None:
    alone = resolve(**CHAIN, sets=[*SMALL, *TRAIN, ("objective.2.factor", 0.75)])
    scores = genplug.run(resolved=alone, out=tmp_path / "x").metrics["improved"]
    assert scores == metrics_of(swept)["factor=0.75"]


def test_a_sweep_replays_from_its_record(swept: Path) -> None:
    recorded = read_toml(swept / "run.toml")
    assert recorded["sweep"] == {"key": "objective.2.factor", "values": [0.5, 0.75, 1.0]}
    assert tomli_w.dumps(resolve(config=recorded).record()) == (swept / "run.toml").read_text()


def test_models_and_steps_of_a_sweep_load_by_name(swept: Path) -> None:
    seeds_N = torch.arange(4)
    one, base, trained = (genplug.load(f"{swept}:{name}") for name in ("factor=1", "base", "1-pretrain"))
    cond = base.conditions(seeds_N)
    assert torch.equal(one.sample(seeds_N, cond), trained.sample(seeds_N, cond))
    assert not torch.equal(one.sample(seeds_N, cond), base.sample(seeds_N, cond))
    with pytest.raises(
        RunDirectoryError, match=r"no model 'factor=0.7' in this run; did you mean 'factor=0.75'"
    ):
        genplug.load(f"{swept}:factor=0.7")


def test_the_report_draws_the_trade_off_with_base_and_floor(swept: Path) -> None:
    page = (swept / "report.html").read_text()
    assert "<h2>Trade-off</h2>" in page
    plot = (swept / "figures/tradeoff-fd-pixels-recall-pixels.svg").read_text()
    assert all(f">{word}</text>" in plot for word in ("base", "floor", "0.5", "0.75", "recall-pixels"))
    assert (swept / "figures/sweep-fd-pixels.svg").is_file()


def scores(**values: float | None) -> dict[str, Any]:
    return {
        f"{name}-{extractor}": {"value": value, "measure": name, "extractor": extractor}
        for name, value in values.items()
        for extractor in ("a", "b")
    }


def test_scores_are_paired_on_equal_features() -> None:
    metrics = {"base": {**scores(fd=1, recall=2), "auth": {"value": 1, "measure": "auth", "extractor": ""}}}
    assert pairs(metrics, ("fd", "recall", "irs")) == [("fd-a", "recall-a"), ("fd-b", "recall-b")]


def test_the_best_value_is_named_and_missing_ones_left_out() -> None:
    sweep = read_sweep("objective.scale=1,2,3", {})
    assert sweep is not None
    models = {"scale=1": scores(fd=4), "scale=2": scores(fd=2), "scale=3": scores(fd=None)}
    swept = Swept(sweep, {"base": scores(fd=5), **models})
    assert best_of(swept, "fd-a", Known("lower")) == "fd-a: 2 at scale=2 (base 5, no floor)"


def test_a_killed_sweep_continues(swept: Path, tmp_path: Path) -> None:
    """SIGKILL once the second value's model is being sampled; the same command ends as if nothing was."""
    words = ["run", "-g", "fake-points", "-o", "pretrain", "-o", "fake-shrink", "--sweep", SWEEP, "--control"]
    words += [w for name in ("dataset", "extractor", "evaluator") for w in _flags(name)]
    words += [w for key, value in [*SMALL, *TRAIN] for w in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "genplug", *words, "--quiet", "--out", str(tmp_path / "x")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("x/samples/factor=0.75*/block-0*")):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "x/metrics.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "x/generator").rglob("*") if path.is_file()}
    genplug.run(resolved=asked(), out=tmp_path / "x")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    ended, whole = metrics_of(tmp_path / "x"), metrics_of(swept)
    assert {k: v for k, v in ended.items() if k != "run"} == {k: v for k, v in whole.items() if k != "run"}


def _flags(name: str) -> list[str]:
    value = POINTS.get(name) or POINTS[f"{name}s"]
    return [w for one in ([value] if isinstance(value, str) else value) for w in (f"--{name}", one)]
