"""Published weights of extractors: fetched, converted, found, and never taken from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import genplug
from genplug.checkpoints import load_weights
from genplug.errors import WeightsError
from genplug_cli.main import execute

W = torch.arange(6.0).reshape(2, 3)
REAL, FAKE = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), torch.rand(20, 2)


@pytest.fixture
def published(here: Path) -> Path:
    """A published file, and a registry that says where it is."""
    torch.save({"w": W}, here / "linear.pt")
    (here / "registry.toml").write_text(
        f'[preset."fake-linear.a"]\nkind = "extractor"\naddress = "file://{here}/linear.pt"\n'
        'format = "torch"\n'
        'licence = "MIT"\n[preset."fake-linear.a".values]\nwidth = 3\n'
    )
    return here / "linear.pt"


def gap(extractor: str, **options: object) -> float:
    found = genplug.evaluate(REAL, FAKE, evaluators=["fake-gap"], extractors=[extractor], options=options)
    (score,) = found.values()
    return score.value


def by_hand(weights: torch.Tensor) -> float:
    return float(((FAKE @ weights).mean() - (REAL @ weights).mean()).abs())


@pytest.mark.usefixtures("published")
def test_missing_weights_are_one_line_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        WeightsError, match=r"weights of 'fake-linear\.a' are not at .*; genplug fetch fake-linear\.a"
    ):
        gap("fake-linear")
    plan = ["run", "-g", "fake-points", "-o", "none", "--dataset", "fake-rings", "--extractor", "fake-linear"]
    assert execute([*plan, "--evaluator", "fake-gap", "--plan", "--json"]) == 0
    weights = json.loads(capsys.readouterr().out)["extractor_weights"]
    assert weights["fake-linear"].startswith("MISSING")
    assert execute([*plan, "--evaluator", "fake-gap", "--out", "x"]) == 2
    assert not Path("x").exists()


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", ["fake-linear", "fake-linear.a"])
def test_fetched_weights_are_turned_into_the_networks_own(name: str) -> None:
    (receipt,) = genplug.fetch(name)
    assert (receipt.preset, receipt.licence) == ("fake-linear.a", "MIT")
    (path,) = Path(__import__("os").environ["GENPLUG_CACHE"]).glob("weights/*.safetensors")
    assert torch.equal(load_weights(path)["weight"], W.T)
    assert gap("fake-linear") == pytest.approx(by_hand(W))
    assert gap("fake-linear.a:tanh@squares") == pytest.approx(
        float((torch.tanh(FAKE @ W).square().mean() - torch.tanh(REAL @ W).square().mean()).abs())
    )


def test_a_users_own_file_of_either_layout_is_taken(published: Path) -> None:
    assert gap("fake-linear", **{"extractor.fake-linear.weights": str(published)}) == pytest.approx(
        by_hand(W)
    )
    assert execute(["convert", str(published), "own.safetensors", "--for", "fake-linear"]) == 0
    own = {"extractor.fake-linear.weights": "own.safetensors"}
    assert gap("fake-linear", **own) == pytest.approx(by_hand(W))


def test_weights_of_another_network_are_refused(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": torch.zeros(2, 5)}, published)
    with pytest.raises(WeightsError, match=r"does not fit preset 'fake-linear\.a': weight is \(5, 2\)"):
        genplug.fetch("fake-linear.a")
    torch.save({"v": W}, published)
    with pytest.raises(WeightsError, match="it has no 'w'"):
        genplug.fetch("fake-linear.a")
    assert execute(["convert", str(published), "own.safetensors", "--for", "fake-linear"]) == 2
    assert "does not fit extractor 'fake-linear': it has no 'w'" in capsys.readouterr().err


def test_known_names_of_scores_are_those_of_known_weights(published: Path) -> None:
    torch.save({"w": torch.zeros(2, 3)}, published)
    genplug.fetch("fake-linear.a")
    found = genplug.evaluate(
        REAL, FAKE, evaluators=["fake-gap"], extractors=["fake-linear", "fake-linear@half"]
    )
    assert {name: score.measure for name, score in found.items()} == {
        "fake-gap-score": "gap",
        "gap-fake-linear@half": "gap",
    }
