"""Neighbours that scores share: one pass for all of them, for any distance, over any number of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genplug.runtime import Run
from genplug.testing.workplace import make_run
from genplug_distances import neighbours
from genplug_distances.balls import Membership
from genplug_distances.exact import Cosine, Euclidean, Squared
from genplug_distances.neighbours import balls, nearest_of, nearest_others
from genplug_metrics.memorisation import authentic
from genplug_metrics.prdc import prdc


def lattice(n: int, seed: int) -> Tensor:
    return torch.randint(0, 4, (n, 4), generator=torch.Generator().manual_seed(seed)).float() + 1


class Manhattan:
    """A third party's distance: nothing but the protocol."""

    searches = 0

    def pairwise(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        return torch.cdist(a_ND, b_MD, p=1)

    def index(self, corpus_MD: Tensor) -> Manhattan:
        self.corpus_MD = corpus_MD
        return self

    def search(self, queries_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
        Manhattan.searches += 1
        d_Nk, i_Nk = self.pairwise(queries_ND, self.corpus_MD).sort(dim=1, stable=True)
        return d_Nk[:, :k], i_Nk[:, :k]


@pytest.fixture
def run() -> Run:
    return make_run(None)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every pass that is made."""
    made: list[str] = []
    for module, name in ((neighbours, "nearest_self"), (neighbours, "membership")):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, _real=real, _name=name, **k: made.append(_name) or _real(*a, **k)
        )
    search = neighbours.nearest
    monkeypatch.setattr("genplug_distances.exact.nearest", lambda *a: made.append("nearest") or search(*a))
    return made


def test_each_pass_is_made_once_for_all_scores(run: Run, passes: list[str]) -> None:
    real, fake = lattice(80, 0), lattice(60, 1)
    prdc(real, fake, (3,), run=run)
    prdc(real, fake.clone(), (3,), convention="<", run=run)  # contents count, not objects
    nearest_others(run, Euclidean(), real, 2)  # fewer neighbours than are known
    authentic(real, fake, run=run)
    nearest_of(run, Euclidean(), fake, real)
    assert passes == ["nearest_self", "nearest_self", "membership", "nearest"]
    nearest_of(run, Euclidean(), fake, real, 2)
    nearest_of(run, Cosine(), fake, real)
    nearest_of(run, Euclidean(), fake + 1, real)
    assert passes[4:] == ["nearest"] * 3


def test_a_run_keeps_bounded_results(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "KEPT_BYTES", 3000)
    for seed in range(8):
        nearest_of(run, Euclidean(), lattice(60, seed), lattice(20, 99))
    kept = run.once("neighbours", lambda _: None).results
    assert 1 <= len(kept) <= 3


def test_squared_distances_have_the_same_neighbours() -> None:
    a, b = lattice(30, 0), lattice(50, 1)
    (d, i), (e, j) = (nearest_of(None, distance, a, b, 4) for distance in (Euclidean(), Squared()))
    assert torch.equal(i, j)
    torch.testing.assert_close(d.square(), e)
    torch.testing.assert_close(
        nearest_others(None, Squared(), a, 3)[0].sqrt(), nearest_others(None, Euclidean(), a, 3)[0]
    )


def counts(found: Membership) -> list[Tensor]:
    names = ("x_open", "x_closed", "y_open", "y_closed")
    return [t for name in names for t in (getattr(found, name).of_balls, getattr(found, name).of_points)]


def test_any_distance_will_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the corners of a cube the Manhattan distance is the squared Euclidean one."""
    monkeypatch.setattr(neighbours, "ROWS", 7)
    g = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(0, 2, (n, 6), generator=g).float() for n in (50, 40))
    theirs, ours = Manhattan(), Squared()
    for feat in (real, fake):
        d, i = nearest_others(run, theirs, feat, 3)
        assert not (i == torch.arange(len(feat))[:, None]).any()
        torch.testing.assert_close(d.double(), nearest_others(run, ours, feat, 3)[0])
    for a, b in zip(*(counts(balls(run, d, real, fake, (1, 3))) for d in (theirs, ours)), strict=True):
        assert torch.equal(a, b)
    before = Manhattan.searches
    balls(run, theirs, real, fake, (1, 3))
    nearest_of(run, theirs, fake, real)
    nearest_of(run, theirs, fake, real)
    assert Manhattan.searches == before + 1


def test_more_neighbours_than_rows_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="k=5"):
        nearest_others(run, Manhattan(), lattice(5, 0), 5)


SCRIPT = """
import sys, torch
from genplug.runtime import Run, make_accelerator
from genplug.settings import RunSettings, RuntimeSettings
from genplug_distances.exact import Euclidean
from genplug_distances.neighbours import balls, nearest_of, nearest_others

run = Run(make_accelerator(RunSettings(), RuntimeSettings(device="cpu")))
g = torch.Generator().manual_seed(0)
x, y = (torch.randint(0, 4, (n, 5), generator=g).float() for n in (41, 30))
found = balls(run, Euclidean(), x, y, (2, 4))
names = ("x_open", "x_closed", "y_open", "y_closed")
state = [t for name in names for t in vars(getattr(found, name)).values()]
state += [*nearest_others(run, Euclidean(), x, 3), *nearest_of(run, Euclidean(), y[:1], x, 2)]
torch.save(state, f"{sys.argv[1]}/{run.accelerator.num_processes}-{run.accelerator.process_index}.pt")
run.wait()
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for launcher in ([], torchrun):
        command = [sys.executable, *launcher, str(script), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, *two = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for results in two:
        assert all(torch.equal(a, b) for a, b in zip(one, results, strict=True))
