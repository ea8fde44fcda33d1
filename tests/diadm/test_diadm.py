"""DiADM in whole runs: what is trained on what, saved and restored, controlled, killed, refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genplug
import genplug_diadm.diadm as training
from genplug.arrays import read_npz
from genplug.checkpoints import load_weights
from genplug.condition import Condition
from genplug.errors import CapabilityError, GenplugError
from genplug.matching import match
from genplug.presets import registry
from genplug.registry import catalog
from genplug.resolving import resolve
from genplug_diadm.diadm import NoFeatures
from genplug_diadm.draws import FeatureDraws

SETS = [("generator.weights", "none"), ("run.samples", 30), ("run.blocks", 1)]
TRAIN = {"steps": 4, "batch_size": 16, "lr": 0.01, "checkpoint_seconds": 0}
OWN: dict[str, Any] = {"extractor": "pixels", "components": 6, "train": TRAIN}


def objective(**options: Any) -> dict[str, Any]:
    return {"name": "diadm", **OWN, **options}


def run(out: Path, objectives: list[dict[str, Any]], sets: Any = (), **names: Any) -> Path:
    given = {"generator": "edm2.digits", "dataset": "digits", "extractors": ["pixels"], "evaluators": []}
    resolved = resolve(config={"objective": objectives}, sets=[*SETS, *sets], **{**given, **names})
    genplug.run(resolved=resolved, out=out)
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of diadm with its control."""
    return run(
        tmp_path_factory.mktemp("made") / "x",
        [objective()],
        [("run.control", True), ("run.evaluators", ["memorisation"])],
        evaluators=None,
    )


def test_the_result_is_conditioned_on_features_of_training_images(made: Path) -> None:
    base, improved = (genplug.load(f"{made}:{role}") for role in ("base", "improved"))
    assert improved.provides == base.provides - {"class-conditional"} | {"feature-conditional"}
    seeds = torch.arange(5)
    cond = improved.conditions(seeds)
    assert cond is not None
    assert cond.features_ND is not None
    assert cond.features_ND.shape == (5, 6)
    conditioning = improved.conditioning  # type: ignore[attr-defined]
    assert isinstance(conditioning, FeatureDraws)
    assert conditioning.bank.features_NC.shape == (1297, 6)
    with torch.no_grad():
        x = torch.zeros(5, *improved.x_shape)  # type: ignore[attr-defined]
        with_features = improved.denoise(x, torch.ones(5), cond)  # type: ignore[attr-defined]
        without = improved.denoise(x, torch.ones(5), cond.null())  # type: ignore[attr-defined]
    assert not torch.allclose(with_features, without)


def test_a_restored_generator_gives_the_samples_of_the_run(made: Path) -> None:
    (batch,) = (made / "samples/improved/block-0").glob("batch-*.npz")
    stored, seeds = read_npz(batch), torch.from_numpy(np.load(batch)["seeds"])
    improved = genplug.load(f"{made}:improved")
    with torch.inference_mode():
        again = improved.sample(seeds, improved.conditions(seeds))
    assert torch.equal(again, stored.read(range(len(stored))))


def test_a_row_is_trained_on_the_features_of_the_same_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, Condition]] = []
    inner = training.pretraining_step

    def step(model: Any, batch: Any) -> Any:
        seen.append(batch.rows["real"])
        return inner(model, batch)

    monkeypatch.setattr(training, "pretraining_step", step)
    out = run(tmp_path / "x", [objective(components=0)])
    (x, cond), levels = seen[0], 255 / 2
    assert cond.features_ND is not None
    pixels = (x + 1) * levels
    scale = (pixels.flatten(1) / cond.features_ND).nanmean()
    torch.testing.assert_close(cond.features_ND * scale, pixels.flatten(1), atol=1e-2, rtol=1e-3)
    assert (out / "stages/1-diadm/features/bank.safetensors").is_file()


def test_the_control_is_the_same_network_without_features(made: Path) -> None:
    control, improved = (genplug.load(f"{made}:{role}") for role in ("control", "improved"))
    shapes = [{k: v.shape for k, v in g.state_dict().items()} for g in (control, improved)]
    assert shapes[0] == shapes[1]
    assert control.conditioning == NoFeatures(6)  # type: ignore[attr-defined]
    assert "unconditional" in control.provides
    assert "unconditional" not in improved.provides
    curves = [
        (made / f"stages/{name}/fit/curve.jsonl").read_text().splitlines()
        for name in ("1-diadm", "1-diadm-control")
    ]
    assert len(curves[0]) == len(curves[1]) == TRAIN["steps"]
    names = ["unet.emb_label.weight", "unet.out_conv.weight"]
    start = control.for_features(6, 0).state_dict()  # type: ignore[attr-defined]
    moved = [direction_changed(control.state_dict()[name], start[name]) for name in names]
    assert moved == [False, True]  # zeros train nothing in the label path
    assert direction_changed(improved.state_dict()[names[0]], start[names[0]])


def direction_changed(weight: torch.Tensor, start: torch.Tensor) -> bool:
    """Whether rows differ by more than the length that EDM2 forces on them."""
    cosine = torch.nn.functional.cosine_similarity(weight.flatten(1), start.flatten(1))
    return float((1 - cosine).max()) > 1e-5


def test_memorisation_is_told_of_each_model_and_of_sources_where_there_are_any(made: Path) -> None:
    metrics = json.loads((made / "metrics.json").read_text())
    own = {"nearest-ratio-pixels", "copies-pixels"}
    assert own | {"nearest-ratio-source-pixels", "copies-source-pixels"} <= metrics["improved"].keys()
    for model in ("base", "control", "floor"):
        assert own <= metrics[model].keys()
        assert "copies-source-pixels" not in metrics[model]
    assert metrics["floor"]["nearest-ratio-pixels"]["value"] == pytest.approx(1, abs=0.2)


def test_other_features_can_be_drawn_after_training(tmp_path: Path) -> None:
    chain = [
        objective(),
        {"name": "feature-draw", "draw": "kernel"},
        {"name": "feature-draw", "draw": "held-out"},
    ]
    out = run(tmp_path / "x", chain)
    improved: Any = genplug.load(f"{out}:improved")
    assert improved.conditioning.options.draw == "held-out"
    assert improved.conditioning.tensors["held-out"].shape == (500, 6)
    assert "class-conditional" not in improved.provides
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["run"]["objectives"][1]["draw"] == "kernel"


def test_points_are_conditioned_on_features_too(tmp_path: Path) -> None:
    small = [("dataset.train", 60), ("dataset.held_out", 40), ("run.evaluators", ["memorisation"])]
    names = {"generator": "toy", "dataset": "fractal", "evaluators": None}
    out = run(tmp_path / "x", [objective(components=0, draw="gaussian")], small, **names)
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"nearest-ratio-pixels", "copies-pixels"} <= metrics["improved"].keys()
    assert genplug.load(f"{out}:improved").conditions(torch.arange(3)).features_ND.shape == (3, 2)  # type: ignore[union-attr]


KILL = """
import os, signal, sys
import genplug_diadm.diadm as module
from genplug_cli.main import main
inner, seen = module.pretraining_step, []
def step(model, batch):
    seen.append(1)
    if len(seen) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(model, batch)
module.pretraining_step = step
sys.argv = ["genplug", "run", "--config", {config!r}, "--out", {out!r}, "--quiet"]
main()
"""


def test_killed_in_training_it_continues_to_the_same_weights(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", [objective()])
    config, out = str(whole / "run.toml"), str(tmp_path / "x")
    done = subprocess.run(
        [sys.executable, "-c", KILL.format(config=config, out=out)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    stages = tmp_path / "x/stages/1-diadm"
    assert (stages / "fit.partial/state.pt").is_file()
    bank = (stages / "features/bank.safetensors").stat().st_mtime_ns
    run(tmp_path / "x", [objective()])
    assert (stages / "features/bank.safetensors").stat().st_mtime_ns == bank
    one, two = (load_weights(p / "generator/1-diadm/weights.safetensors") for p in (whole, tmp_path / "x"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_an_extractor_that_does_not_fit_the_data_is_one_line_before_any_work(tmp_path: Path) -> None:
    expected = "extractor 'fake-linear' takes points; generator 'edm2' makes image"
    with pytest.raises(CapabilityError, match=expected):
        run(tmp_path / "x", [objective(extractor="fake-linear")])
    assert not (tmp_path / "x").exists()
    with pytest.raises(GenplugError, match="extractor 'pixels' has no output 'cls'"):
        run(tmp_path / "y", [objective(extractor="pixels@cls")])
    with pytest.raises(GenplugError, match="have 64 principal components, not 100"):
        run(tmp_path / "z", [objective(components=100)])


def test_a_generator_without_trainable_features_is_one_line() -> None:
    with pytest.raises(
        CapabilityError, match=r"'diadm' needs denoiser, feature-trainable; .*that fit: .*edm2"
    ):
        match(resolve(generator="fake-latent", objectives=["diadm"], dataset="fake-tiles"))


def test_training_on_labels_after_features_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="train it before diadm, not after"):
        run(tmp_path / "x", [objective(), {"name": "pretrain", "train": TRAIN}])


def test_feature_draw_without_diadm_is_one_line(made: Path, tmp_path: Path) -> None:
    control: Any = genplug.load(f"{made}:control")
    config = catalog().get("objective", "feature-draw").config_model()()
    with pytest.raises(CapabilityError, match="put it after diadm"):
        config.build(None).apply(control, None)


def test_the_papers_scale_is_a_preset_with_sources() -> None:
    preset = registry(catalog()).preset("diadm.edm2-xs-512")
    train = preset.values["train"]
    assert (train["batch_size"], train["lr"], train["decay"]) == (2048, 0.0120, 70000.0)
    assert {"train.batch_size", "train.lr", "train.decay", "extractor"} <= preset.sources.keys()
    resolved = resolve(
        generator="edm2.img512-xs",
        objectives=["diadm.edm2-xs-512"],
        dataset="digits",
        sets=[("generator.weights", "none")],
    )
    generator: Any = resolved.generator.config
    assert (generator.log_mean, generator.log_std, generator.dropout) == (-0.4, 1.0, 0.0)
    match(resolved)
