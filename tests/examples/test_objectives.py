"""The generator of the tutorial, as a third party wrote it, goes through every objective that it fits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.config import flatten
from genplug.errors import CapabilityError
from genplug.loading import light_run
from genplug.registry import catalog
from genplug.resolving import resolve

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "genplug-example"
OWN = [name for name, entry in catalog().entries["objective"].items() if entry.package.name == "genplug"]
#: What its capabilities (denoiser, trainable, class-conditional) do not allow, and the word it lacks.
UNFIT = {
    "cca": "null-label",
    "cfg": "unconditional",
    "diadm": "feature-trainable",
    "feature-draw": "feature-conditional",
}
#: Where the default takes a branch without labels, and another option does not.
OPTIONS = {"classifier-guidance": {"on": "conditional"}}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the package for this process, as pip would."""
    site = tmp_path_factory.mktemp("site")
    info = site / "genplug_example-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: genplug-example\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[genplug]\nexample = genplug_example\n")
    sys.path[:0] = [str(site), str(EXAMPLE)]
    forget()
    yield
    sys.path[:] = [place for place in sys.path if place not in (str(site), str(EXAMPLE))]
    forget()


def forget() -> None:
    """Forget what is installed, and the run that knows it."""
    catalog.cache_clear()
    light_run.cache_clear()


def asked(objective: str) -> Any:
    tiny = {**catalog().get("objective", objective).spec.tiny, **OPTIONS.get(objective, {})}
    small = {"run.samples": 30, "run.blocks": 1, "run.batch_size": 15}
    return resolve(
        generator="example-mlp",
        objectives=[objective],
        extractors=["pixels"],
        evaluators=["frechet"],
        sets=[*small.items(), *((f"objective.{key}", value) for key, value in flatten(tiny))],
    )


@pytest.mark.slow
@pytest.mark.parametrize("objective", [name for name in OWN if name not in UNFIT])
def test_it_is_improved_unchanged(objective: str, tmp_path: Path) -> None:
    result = genplug.run(resolved=asked(objective), out=tmp_path / "x")
    score = result.metrics["improved"]["fd-pixels"]
    assert score["value"] is not None
    assert score["n_generated"] == 30
    loaded, seeds_N = genplug.load(f"{tmp_path}/x:improved"), torch.arange(3)
    assert loaded.sample(seeds_N, loaded.conditions(seeds_N)).shape == (3, 1, 8, 8)


@pytest.mark.parametrize("objective", [name for name in OWN if name in UNFIT])
def test_what_it_does_not_fit_says_what_it_lacks(objective: str) -> None:
    with pytest.raises(CapabilityError, match=UNFIT[objective]):
        asked(objective)
