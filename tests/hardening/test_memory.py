"""Out of memory on a batch: halved and continued, said once, with the same samples and features."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genplug.errors import OutOfMemoryError
from genplug.memory import Fitting, is_out_of_memory
from genplug.runtime import Run, make_accelerator
from genplug.settings import RunSettings, RuntimeSettings

LIMITED = """
import json, re, resource, sys
from pathlib import Path
import torch
from genplug.extraction import Want, extract
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import ArraySet, read_all
from genplug.sampling import draw, open_samples
from genplug.settings import RunSettings, RuntimeSettings

MEGABYTE, EACH = 2**20, 64  # memory that one sample takes, in megabytes


class Log:
    def __init__(self): self.said = []
    def warn(self, text): self.said.append(text)
    def info(self, text): pass
    def progress(self, *_, **__): return __import__("contextlib").nullcontext(lambda n=1, note="": None)


def needed(count):
    return torch.ones(count * EACH * MEGABYTE // 4).reshape(count, -1).mean(1)


class Hungry:
    size, provides, modality, fingerprint = None, frozenset(sys.argv[4:]), "points", "hungry"
    def conditions(self, seeds_N, policy): return None
    def sample(self, seeds_N, cond=None):
        return torch.stack([seeds_N * needed(len(seeds_N)), seeds_N.cos()], 1)
    def preprocess(self, sample): return sample
    def __call__(self, batch): return {"x": batch * needed(len(batch))[:, None]}


log, place = Log(), Path(sys.argv[1])
settings = RunSettings(batch_size=12)
run = Run(make_accelerator(settings, RuntimeSettings(device="cpu")), settings, place, log)
run._built["extractor.hungry"] = Hungry()
if int(sys.argv[2]):
    used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    limit = used + int(sys.argv[2]) * MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
if sys.argv[3] == "samples":
    draw(run, Hungry(), torch.arange(30), 12, "balanced", place, "hungry")
    found = read_all(open_samples(place, "x"))
else:
    want = Want("hungry")
    found = extract(run, ArraySet(torch.arange(60.0).reshape(30, 2)), [want])[want]
files = sorted(path.name for path in place.glob("*.npz"))
print(json.dumps({"found": found.tolist(), "said": log.said, "files": files}))
"""


def work(place: Path, megabytes: int, what: str, *provides: str) -> subprocess.CompletedProcess[str]:
    place.mkdir()
    command = [sys.executable, "-c", LIMITED, str(place), str(megabytes), what, *provides]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("what", ["samples", "features"])
def test_batches_that_do_not_fit_are_halved_and_give_the_same(tmp_path: Path, what: str) -> None:
    """A batch of 12 needs 768 MB; 500 MB fit 6 at most."""
    free, tight = work(tmp_path / "free", 0, what), work(tmp_path / "tight", 500, what)
    assert (free.returncode, tight.returncode) == (0, 0), free.stderr + tight.stderr
    whole, halved = json.loads(free.stdout), json.loads(tight.stdout)
    assert torch.allclose(torch.tensor(whole["found"]), torch.tensor(halved["found"]))
    assert whole["files"] == halved["files"]
    assert whole["said"] == []
    (said,) = halved["said"]
    assert "a batch of 12 does not fit in memory; continued with" in said
    (event,) = [json.loads(line) for line in (tmp_path / "tight" / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["batch"], event["continued_with"] in (3, 6)) == ("out-of-memory", 12, True)


@linux
@pytest.mark.slow
def test_a_sample_that_does_not_fit_alone_is_an_error(tmp_path: Path) -> None:
    done = work(tmp_path / "x", 40, "samples")
    assert done.stderr.splitlines()[-1].endswith(
        "OutOfMemoryError: out of memory: sampling hungry does not fit with one sample; free memory, or "
        "make the samples or the network smaller"
    )


@linux
@pytest.mark.slow
def test_batches_whose_samples_depend_on_each_other_are_not_split(tmp_path: Path) -> None:
    done = work(tmp_path / "x", 500, "samples", "batch-coupled")
    assert "a batch of 12, and its samples depend on their batch; choose a smaller" in done.stderr


class Heard:
    """A log that keeps its warnings."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def fitting(size: int) -> tuple[Fitting, Heard]:
    settings, log = RunSettings(), Heard()
    run = Run(make_accelerator(settings, RuntimeSettings(device="cpu")), settings, log=log)  # type: ignore[arg-type]
    return Fitting(run, "work", size), log


def test_the_size_that_worked_is_kept_and_said_once() -> None:
    halving, log = fitting(10)
    tried: list[int] = []

    def at_most_two(start: int, stop: int) -> torch.Tensor:
        tried.append(stop - start)
        if stop - start > 2:
            raise MemoryError
        return torch.arange(start, stop)

    for _ in range(2):
        assert halving.rows(7, at_most_two).tolist() == list(range(7))
    assert tried == [7, 3, *[1] * 14]
    assert log.said == ["work: a batch of 10 does not fit in memory; continued with 1"]


def test_a_bug_is_not_taken_for_missing_memory() -> None:
    halving, log = fitting(4)
    with pytest.raises(ZeroDivisionError):
        halving.rows(4, lambda start, stop: torch.tensor([1 // 0]))
    assert log.said == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("shapes do not fit"), False),
        (OutOfMemoryError("told already"), False),
    ],
)
def test_what_means_out_of_memory(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
