"""Around a run: foreign folders, data that do not fit, processes that fail, what is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import genplug
from genplug import pipeline
from genplug.config import Config, GeneratorConfig
from genplug.denoiser import Labels
from genplug.errors import ConfigError, DataError, GenplugError, NonFiniteError, RunDirectoryError
from genplug.log import Silent
from genplug.resolving import resolve
from genplug.runtime import make_accelerator
from genplug.samplesets import ArraySet
from genplug.sampling import draw
from genplug.snapshots import found
from genplug.training import full_precision, real_rows

POINTS: dict[str, Any] = {
    "generator": "fake-points",
    "dataset": "fake-rings",
    "extractors": ["fake-mean"],
    "evaluators": ["fake-gap"],
}
SMALL = [("run.samples", 12), ("run.blocks", 2), ("run.batch_size", 6)]
TRAIN = ("objective.train", {"steps": 4, "batch_size": 8, "ema_std": [0.1, 0.05]})


def run(out: Path, objective: str = "none", sets: Any = (), force: bool = False, **named: Any) -> Any:
    asked = resolve(**{**POINTS, **named}, objectives=[objective], sets=[*SMALL, *sets])
    return genplug.run(resolved=asked, out=out, force=force)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_no_run_is_neither_used_nor_emptied(tmp_path: Path, force: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match=r"holds 'thesis.tex' but no run.toml"):
        run(tmp_path, force=force)
    assert (tmp_path / "thesis.tex").exists()


def test_force_empties_a_run(tmp_path: Path) -> None:
    run(tmp_path / "x")
    (tmp_path / "x" / "mark").write_text("")
    run(tmp_path / "x", sets=[("run.seed", 3)], force=True)
    assert not (tmp_path / "x" / "mark").exists()


def test_held_out_files_of_their_own_have_a_floor(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "test")):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).normal(size=(40, 2)).astype(np.float32))
    sets = [("dataset.path", str(tmp_path / "train.npy")), ("dataset.held_out_path", f"{tmp_path}/test.npy")]
    named = {"dataset": "files", "evaluators": ["fake-gap", "irs"], "extractors": ["pixels"]}
    floor = run(tmp_path / "x", sets=sets, **named).metrics["floor"]
    assert {"irs-pixels", "irs-adjusted-pixels"} < set(floor)
    np.save(tmp_path / "test.npy", np.load(tmp_path / "train.npy"))
    with pytest.raises(DataError, match="training and held-out samples are the same"):
        run(tmp_path / "y", sets=sets, **named)
    assert not (tmp_path / "y").exists()


def test_a_path_on_the_command_line_wins_over_the_one_in_a_file(tmp_path: Path) -> None:
    named = {**POINTS, "dataset": str(tmp_path), "objectives": ["none"]}
    asked = resolve(**named, config={"dataset": {"path": "elsewhere"}})
    assert (asked.dataset.name, asked.dataset.options()["path"]) == ("files", str(tmp_path))


def test_training_leaves_nothing_with_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(pipeline, "make_accelerator", lambda *a: made.append(make_accelerator(*a)) or made[0])
    run(tmp_path / "x", "pretrain", [TRAIN])
    assert made[0]._models == made[0]._optimizers == []


def test_snapshots_of_a_step_have_one_order(tmp_path: Path) -> None:
    for name in ("ema", "raw", "0.100", "0.050"):
        (tmp_path / f"step-00000004.{name}.safetensors").touch()
    assert [snapshot.average for snapshot in found(tmp_path, [4])] == ["raw", "0.050", "0.100", "ema"]


def test_the_base_of_a_run_has_the_random_weights_of_its_seed(tmp_path: Path) -> None:
    run(tmp_path / "x", sets=[("run.seed", 7)])
    own, base = genplug.load("fake-points").state_dict(), genplug.load(f"{tmp_path}/x:base").state_dict()
    assert any(not torch.equal(own[name], base[name]) for name in own)


def test_what_is_not_finite_on_another_process_stops_this_one_too(tmp_path: Path) -> None:
    alone = SimpleNamespace(process_index=0, num_processes=1)
    worker: Any = SimpleNamespace(accelerator=alone, log=Silent(), all=lambda value: False)
    generator = genplug.load("fake-points")
    with pytest.raises(NonFiniteError, match="on another process"):
        draw(worker, generator, torch.arange(4), 2, "balanced", tmp_path, "points")


class Trained:
    """Real rows are asked for by a generator like this."""

    provides, x_shape, conditioning = frozenset({"class-conditional"}), (2,), Labels(3)

    def encode(self, samples: torch.Tensor) -> torch.Tensor:
        return samples


@pytest.mark.parametrize(
    ("width", "labels", "said"),
    [
        (2, None, "trained on labels; rings has none"),
        (3, torch.zeros(5), r"x of shape \(3,\); .* \(2,\)"),
        (2, torch.arange(5), "rings has labels up to 4; the generator has 3 classes"),
    ],
)
def test_data_that_do_not_fit_a_generator_are_refused(width: int, labels: Any, said: str) -> None:
    data = ArraySet(torch.zeros(5, width), labels, "rings")
    worker: Any = SimpleNamespace(dataset=lambda split: data, device=torch.device("cpu"))
    with pytest.raises(DataError, match=said):
        real_rows(worker, Trained())


def test_ddo_of_a_denoiser_refuses_mixed_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "make_accelerator", lambda *_: make_accelerator(*light()))
    with pytest.raises(ConfigError, match=r"set run\.precision=no"):
        run(tmp_path / "x", "ddo", [("run.precision", "bf16")])


def light() -> Any:
    from genplug.settings import RunSettings, RuntimeSettings

    return RunSettings(), RuntimeSettings()


def test_a_process_keeps_its_precision() -> None:
    settings, runtime = light()
    make_accelerator(settings, runtime)
    with pytest.raises(ConfigError, match=r"run\.precision = 'bf16'"):
        make_accelerator(settings.model_copy(update={"precision": "bf16"}), runtime)


def test_training_computes_in_full_precision() -> None:
    generator = genplug.load("edm2")
    assert generator.denoiser.half
    assert not full_precision(generator).denoiser.half


def test_a_configuration_says_what_it_builds_and_provides() -> None:
    class Nothing(Config):
        pass

    class Half(GeneratorConfig):
        def build(self, run: Any) -> None: ...

    for model, missing in ((Nothing, "build"), (Half, "provides")):
        with pytest.raises(TypeError, match=missing):
            model.model_validate({})


@pytest.mark.slow
def test_two_processes_train_a_network_of_which_the_loss_uses_a_part(tmp_path: Path) -> None:
    """DDO drops EDM2's learned uncertainty, so its parameters get no gradient."""
    sets = ["generator.num_blocks=1", "objective.rounds=1", "objective.pool=20", "objective.train.steps=3"]
    sets += ["objective.train.batch_size=20", "objective.select_samples=20", "run.samples=20", "run.blocks=1"]
    command = [sys.executable, "-m", "genplug", "run", "-g", "edm2", "-o", "ddo", "--processes", "2"]
    command += ["--extractor", "pixels", "--evaluator", "frechet", "--quiet", "--out", str(tmp_path / "x")]
    command += [word for value in sets for word in ("--set", value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def refused(out: Path, dataset: str, said: str) -> None:
    resolved = resolve(generator="edm2", objectives=[], dataset=dataset, extractors=["pixels"])
    with pytest.raises(GenplugError, match=said):
        genplug.run(resolved=resolved, out=out)


def test_data_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """So the corrected command with the same --out is not refused for holding another run."""
    out = tmp_path / "x"
    refused(out, f"{tmp_path}/absent/", "neither a path nor a data set")
    refused(out, f"{tmp_path}/", "holds no images")
    refused(out, "fake-rings", "generator 'edm2' makes image; fake-rings:train holds points")
    refused(out, "fake-tiles", r"makes samples of shape \(1, 8, 8\); fake-tiles:train holds \(1, 4, 4\)")
    assert not out.exists()


def test_an_out_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GenplugError, match="cannot be written"):
        genplug.run(resolved=resolve(generator="edm2", objectives=[]), out=tmp_path / "file" / "x")


def test_a_change_in_one_objective_names_its_key(tmp_path: Path) -> None:
    from genplug.rundirectory import _refuse

    old, new = {"objective": [{"name": "ddo", "rounds": 1}]}, {"objective": [{"name": "ddo", "rounds": 2}]}
    with pytest.raises(GenplugError, match=r"objective\.rounds was 1, now 2; choose"):
        _refuse(tmp_path, old, new)
    old["objective"].append({"name": "a", "k": 1})
    new = {"objective": [old["objective"][0], {"name": "a", "k": 2}]}
    with pytest.raises(GenplugError, match=r"objective\.2\.k was 1, now 2; choose"):
        _refuse(tmp_path, old, new)
