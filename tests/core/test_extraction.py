"""Features: one pass, several extractors and outputs, resumed after a kill, never taken from a bad cache."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genplug.checkpoints import load_weights, save_weights
from genplug.errors import CapabilityError, DataError, GenplugError, UnknownNameError
from genplug.extraction import Want, extract
from genplug.extractors import Reference, parse, spec_of
from genplug.features import gather
from genplug.registry import catalog
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import ArraySet
from genplug.settings import RunSettings, RuntimeSettings


class Log:
    """A log that keeps its warnings."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)

    def info(self, text: str) -> None:
        self.said.append(text)

    def progress(self, *_: Any, **__: Any) -> Any:
        import contextlib

        return contextlib.nullcontext(lambda n=1, note="": None)


class Counting:
    """An extractor of two outputs that counts what it preprocesses and sees."""

    def __init__(self, fingerprint: str = "counting", scale: float = 1.0) -> None:
        self.fingerprint, self.scale, self.read, self.batches = fingerprint, scale, 0, list[int]()

    def preprocess(self, sample: Tensor) -> Tensor:
        self.read += 1
        return sample

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        self.batches.append(len(batch))
        return {"sum": self.scale * batch.sum(1, keepdim=True), "both": batch}


class Reading(ArraySet):
    """Points that count how often they are read."""

    reads = 0

    def read(self, rows: Any) -> Tensor:
        self.reads += len(rows)
        return super().read(rows)


def run_with(batch: int = 4, **extractors: Any) -> Run:
    settings = RunSettings(batch_size=batch)
    run = Run(make_accelerator(settings, RuntimeSettings(device="cpu")), settings, log=Log())  # type: ignore[arg-type]
    run._built.update({f"extractor.{name}": extractor for name, extractor in extractors.items()})
    return run


POINTS = torch.arange(20.0).reshape(10, 2)


def test_a_reference_is_family_preset_argument_and_output() -> None:
    assert parse("dinov2") == Reference("dinov2")
    assert parse("dinov2.b@patch-mean") == Reference("dinov2", "b", "", "patch-mean")
    timm = parse("timm:vit_small_patch14_dinov2.lvd142m@cls")
    assert (timm.family, timm.tag, timm.argument) == ("timm", "", "vit_small_patch14_dinov2.lvd142m")
    assert (timm.head, timm.output, timm.preset) == ("timm:vit_small_patch14_dinov2.lvd142m", "cls", "")
    assert (parse("dinov2.b").preset, parse("dinov2.b@x").head) == ("dinov2.b", "dinov2.b")


def test_what_an_extractor_does_not_have_is_refused_by_name() -> None:
    assert spec_of(catalog(), "digits-classifier@logits").outputs == ("features", "logits")
    with pytest.raises(CapabilityError, match=r"has no output 'logit'; did you mean 'logits'\?"):
        spec_of(catalog(), "digits-classifier@logit")
    with pytest.raises(CapabilityError, match="extractor 'pixels' takes no argument"):
        spec_of(catalog(), "pixels:x")
    run = run_with(counting=Counting())
    with pytest.raises(UnknownNameError, match="no output of extractor 'counting' named 'none'"):
        extract(run, ArraySet(POINTS), [Want("counting", "none")])


def test_several_extractors_and_outputs_take_one_pass() -> None:
    a, b = Counting("a"), Counting("b", 2.0)
    run, samples = run_with(a=a, b=b), Reading(POINTS)
    wants = [Want("a"), Want("a", "both"), Want("b")]
    found = extract(run, samples, wants)
    assert samples.reads == len(POINTS) + 1  # one is read to know the size of a batch
    assert a.batches == b.batches == [4, 4, 2]
    assert torch.equal(found[wants[0]], POINTS.sum(1, keepdim=True))
    assert torch.equal(found[wants[1]], POINTS)
    assert torch.equal(found[wants[2]], 2 * POINTS.sum(1, keepdim=True))


def test_a_second_evaluation_reads_features_of_equal_contents_alone() -> None:
    extractor, want = Counting(), Want("counting")
    run = run_with(counting=extractor)
    first = gather(run, ArraySet(POINTS, name="a"), [want])[want]
    seen = extractor.read
    assert torch.equal(gather(run_with(counting=extractor), ArraySet(POINTS, name="b"), [want])[want], first)
    assert extractor.read == seen
    gather(run, ArraySet(POINTS + 1), [want])
    assert extractor.read > seen


def cache_file() -> Path:
    (path,) = (Path(os.environ["GENPLUG_CACHE"]) / "features").glob("*.safetensors")
    return path


@pytest.mark.parametrize("damage", ["truncated", "changed", "other weights", "other rows"])
def test_a_bad_cache_file_is_found_and_made_again(damage: str) -> None:
    want, samples = Want("counting"), ArraySet(POINTS)
    whole = gather(run_with(counting=Counting()), samples, [want])[want]
    path = cache_file()
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-8])
    elif damage == "changed":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "other weights":  # a file copied from another extractor's cache
        os.environ["GENPLUG_CACHE"] += "/other"
        gather(run_with(counting=Counting("other", 3.0)), samples, [want])
        other = cache_file()
        os.environ["GENPLUG_CACHE"] = os.environ["GENPLUG_CACHE"].removesuffix("/other")
        path.write_bytes(other.read_bytes())
    else:
        save_weights({"features": whole[:-1]}, path)
    again = Counting()
    assert torch.equal(gather(run_with(counting=again), samples, [want])[want], whole)
    assert again.read > 0
    assert len(load_weights(path)["features"]) == len(POINTS)


SLOW = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
from test_extraction import Counting, run_with
from genplug.extraction import Want
from genplug.features import gather
from genplug.samplesets import ArraySet


class Slow(Counting):
    def __call__(self, batch):
        time.sleep(float(sys.argv[2]))
        return super().__call__(batch)


extractor = Slow()
points = torch.sin(torch.arange(4096.0)).reshape(2048, 2)
found = gather(run_with(256, slow=extractor), ArraySet(points), [Want("slow")])[Want("slow")]
print(len(extractor.batches), found.double().sum().item(), found.double().square().sum().item())
"""


def slow(seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(Path(__file__).parent), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_extraction_continues_with_the_chunks_that_were_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = Path(os.environ["GENPLUG_CACHE"])
    killed, started = slow(0.4), time.monotonic()
    while not list(cache.glob("features/*.partial/*.safetensors")):
        assert time.monotonic() < started + 60
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    resumed, _ = slow(0).communicate()
    monkeypatch.setenv("GENPLUG_CACHE", str(cache / "fresh"))
    whole, _ = slow(0).communicate()
    batches, *values = resumed.split()
    all_batches, *expected = whole.split()
    assert values == expected
    assert int(batches) < int(all_batches) == 8
    assert not list(cache.glob("features/*.partial"))


def test_empty_features_are_refused_and_constant_ones_are_told() -> None:
    class Empty(Counting):
        def __call__(self, batch: Tensor) -> dict[str, Tensor]:
            return {"x": batch[:, :0]}

    with pytest.raises(DataError, match="empty gives empty features for samples"):
        extract(run_with(empty=Empty()), ArraySet(POINTS), [Want("empty")])
    run = run_with(counting=Counting())
    gather(run, ArraySet(torch.ones(5, 2), name="blank"), [Want("counting")])
    assert run.log.said == ["all 5 samples of blank have the same counting features: equal images?"]  # type: ignore[attr-defined]


def test_preset_tag_argument_and_options_reach_the_extractor() -> None:
    from genplug.layers import layer
    from genplug.presets import registry
    from genplug.resolving import Resolver

    options = {"extractor": {"random-inception": {"size": 80}}}
    resolver = Resolver(catalog(), registry(catalog()), layer(options, []))
    (part,) = resolver.extractors(["random-inception@features"])
    assert (part.config.size, part.reference, part.head) == (  # type: ignore[attr-defined]
        80, "random-inception@features", "random-inception",
    )  # fmt: skip
    assert dataclasses.replace(part, label="").reference == "random-inception"
    assert json.dumps(part.options())


def test_an_extractor_that_an_objective_names_is_checked_before_any_work() -> None:
    """Its name, its options and its weights, as those of extractors that judge."""
    from genplug.resolving import resolve
    from genplug.weights import require

    asked: dict[str, Any] = {"generator": "edm2", "objectives": ["flow"]}
    with pytest.raises(GenplugError, match="did you mean 'dinov2'"):
        resolve(**asked, sets=[("objective.extractor", "dino")])
    resolved = resolve(**asked, sets=[("objective.extractor", "dinov2.b@patch-mean")])
    assert [part.reference for part in resolved.objective_extractors] == ["dinov2.b@patch-mean"]
    with pytest.raises(GenplugError, match=r"genplug fetch dinov2\.b"):
        require(resolved)
    assert resolve(**asked).objective_extractors == ()  # pixels judge as well
