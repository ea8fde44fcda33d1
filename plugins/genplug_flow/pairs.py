"""Pairs of generated and real samples: which real rows a generated one may be moved to.

Legend: N generated rows, M real rows, D feature width, k neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from genplug.checkpoints import digest, load_weights, save_weights
from genplug.condition import Condition
from genplug.errors import ConfigError, DataError
from genplug.memory import Fitting
from genplug.protocols import Distance, Index
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.sampling import each_batch
from genplug.stages import write_json
from genplug.training import TensorRows
from genplug_flow.space import Space

EVERY = -1  # the one class where classes do not count
SPACING = "spacing.json"
PROBES = 1000  # real rows whose distance to the nearest other one is measured


class Targets(Protocol):
    """The real rows that each generated row may be paired with."""

    def draw(self, rows_B: Tensor, draws: NoiseSource) -> Tensor:
        """Return one real row for each generated row, int64 B, all of its own equally probable."""


@dataclass(frozen=True)
class Neighbours:
    """A table of the nearest real rows, nearest first; -1 where a class has fewer than k."""

    table_Nk: Tensor
    distances_Nk: Tensor

    def draw(self, rows_B: Tensor, draws: NoiseSource) -> Tensor:
        """Return one neighbour of each row."""
        found_Bk = self.table_Nk[rows_B]
        return found_Bk.gather(1, _one_of((found_Bk >= 0).sum(1), draws)[:, None])[:, 0]


class AnyRow:
    """All real rows of the same class: the control without neighbours."""

    def __init__(self, classes: Classes) -> None:
        place = {label: number for number, label in enumerate(classes.real)}
        own_N = torch.tensor([place[label] for label in classes.of_N.tolist()])
        counts_C = torch.tensor([len(rows) for rows in classes.real.values()])
        self.rows_M = torch.cat(list(classes.real.values()))
        self.counts_N, self.starts_N = counts_C[own_N], (counts_C.cumsum(0) - counts_C)[own_N]

    def draw(self, rows_B: Tensor, draws: NoiseSource) -> Tensor:
        """Return one real row of each row's class."""
        return self.rows_M[self.starts_N[rows_B] + _one_of(self.counts_N[rows_B], draws)]


def _one_of(counts_B: Tensor, draws: NoiseSource) -> Tensor:
    """Return a uniform number below each count."""
    u_B = draws.uniform((len(draws),), "neighbour").to(counts_B.device)
    return torch.minimum((u_B.double() * counts_B).long(), counts_B - 1)


class PairRows:
    """Training rows: x of a generated sample and of the real one drawn for it, N x 2 x the shape of x."""

    def __init__(self, pool: TensorRows, real: SampleSet, space: Space, targets: Targets) -> None:
        self.pool, self.real, self.space, self.targets = pool, real, space, targets
        self.labels = pool.labels

    def __len__(self) -> int:
        return len(self.pool)

    def batch(self, rows: Tensor, draws: NoiseSource) -> tuple[Tensor, Condition | None]:
        """Return pairs and the labels of their generated halves."""
        device = draws.seeds_N.device
        drawn, cond = self.pool.batch(rows, draws)
        real = self.real.read(self.targets.draw(rows, NoiseSource(draws.seeds_N.cpu())).tolist())
        x_real = self.space.encode(real.to(device), draws).float()
        return torch.stack([self.space.x(drawn.to(device)), x_real], dim=1), cond


@dataclass(frozen=True)
class Classes:
    """The class of each generated row, and which real rows are of it; `EVERY` where classes do not count."""

    of_N: Tensor
    real: Mapping[int, Tensor]

    @staticmethod
    def of(labels_N: Tensor | None, count: int, real: SampleSet, within: bool | None) -> Classes:
        """Return the classes within which rows are paired, refusing those without a real sample."""
        labelled = labels_N is not None and real.labels is not None
        if within and not labelled:
            lacking = "generated samples have" if labels_N is None else f"{real.name} has"
            raise ConfigError(f"objective.within_class needs labels; {lacking} none")
        if within is False or labels_N is None or real.labels is None:
            return Classes(torch.full((count,), EVERY), {EVERY: torch.arange(len(real))})
        found = {int(label): (real.labels == label).nonzero().flatten() for label in labels_N.unique()}
        for label, rows in found.items():
            if not len(rows):
                raise DataError(
                    f"{real.name} has no sample of class {label}, which is generated: there is no neighbour "
                    "to move to; add real samples of it or set objective.within_class=false"
                )
        return Classes(labels_N, found)

    def few(self, k: int, shown: int = 5) -> str:
        """Name the classes with fewer than k real rows; empty if there is none."""
        counts = {label: len(rows) for label, rows in self.real.items() if len(rows) < k}
        named = [f"class {c} has {n}" if c != EVERY else f"there are {n}" for c, n in counts.items()]
        return ", ".join(named[:shown]) + (f" and {len(named) - shown} more" if len(named) > shown else "")


@dataclass(frozen=True)
class Search:
    """How neighbours are searched: by which features and distance, and how many."""

    extractor: str
    distance: Any  # a component's reference
    k: int

    def neighbours(
        self, run: Run, pool: TensorRows, space: Space, real: SampleSet, classes: Classes
    ) -> Neighbours:
        """Return the table of neighbours: searched once, in batches over processes, kept as a stage."""
        generated = space.samples(pool.x, "the pool", pool.labels)
        features_ND, real_MD = (run.features(samples, self.extractor) for samples in (generated, real))
        if features_ND.shape[1] != real_MD.shape[1]:
            raise DataError(
                f"{self.extractor} gives {features_ND.shape[1]} features of a generated sample and "
                f"{real_MD.shape[1]} of one of {real.name}; name another objective.extractor"
            )
        if few := classes.few(self.k):
            run.log.warn(f"fewer than {self.k} real neighbours to draw from: {few}")
        corpus = Corpus(run.component("distance", self.distance), real_MD.to(run.device), classes.real)

        def write(path: Path, rows_B: Tensor, fitting: Fitting) -> None:
            def part(start: int, stop: int) -> Tensor:
                rows = rows_B[start:stop]
                return corpus.search(features_ND[rows], classes.of_N[rows], self.k)

            found_Bk2 = fitting.rows(len(rows_B), part)
            save_weights({"rows": found_Bk2[..., 0].long(), "distances": found_Bk2[..., 1].float()}, path)

        def work(partial: Path) -> None:
            rows_N, size = torch.arange(len(pool)), run.settings.batch_size
            each_batch(run, rows_N, size, partial, ".safetensors", "neighbours", write)
            if run.is_main:
                write_json(partial / SPACING, {"real_to_real": corpus.spacing()})

        about = {
            "pool": generated.fingerprint,
            "real": real.fingerprint,
            "extractor": [self.extractor, run.extractor(self.extractor).fingerprint],
            "distance": self.distance.model_dump(),
            "k": self.k,
            "classes": digest({"classes": classes.of_N}),
        }
        directory = run.stage("neighbours", {**about, "batch": run.settings.batch_size}, work)
        return _read(directory, run)


def _read(directory: Path, run: Run) -> Neighbours:
    """Read a finished search; say so if there is little to gain by moving."""
    parts = [load_weights(path) for path in sorted(directory.glob("batch-*.safetensors"))]
    found = Neighbours(*(torch.cat([part[key] for part in parts]) for key in ("rows", "distances")))
    spacing = json.loads((directory / SPACING).read_text(encoding="utf-8"))["real_to_real"]
    nearest = float(found.distances_Nk[:, 0].mean())
    run.event("neighbours", nearest=nearest, real_to_real=spacing)
    if nearest <= spacing:
        run.log.warn(
            f"generated samples are as near to real ones ({nearest:.3g}) as these are to each other "
            f"({spacing:.3g}): a flow has little to improve"
        )
    return found


@dataclass
class Corpus:
    """Real features by class, each class indexed when it is first asked for."""

    distance: Distance
    features_MD: Tensor
    real: Mapping[int, Tensor]
    indices: dict[int, Index] = field(default_factory=dict)

    def search(self, queries_ND: Tensor, classes_N: Tensor, k: int) -> Tensor:
        """Return row number and distance of the k nearest real rows of the class, float64 N x k x 2.

        Both are in one tensor, where row numbers stay exact: a batch that is split is joined from these.
        """
        found_Nk2 = torch.full((len(queries_ND), k, 2), -1.0, dtype=torch.float64)
        device = self.features_MD.device
        for label in classes_N.unique().tolist():
            rows_N, mine = (classes_N == label).nonzero().flatten(), self.real[label]
            if label not in self.indices:
                self.indices[label] = self.distance.index(self.features_MD[mine.to(device)])
            count = min(k, len(mine))
            d_Nk, i_Nk = self.indices[label].search(queries_ND[rows_N].to(device), count)
            found_Nk2[rows_N, :count] = torch.stack([mine[i_Nk.cpu()].double(), d_Nk.double().cpu()], dim=-1)
        return found_Nk2

    def spacing(self) -> float | None:
        """Return the mean distance of real rows to the nearest other one of their class, over `PROBES`."""
        label = max(self.real, key=lambda label: len(self.real[label]))
        rows = self.real[label][:PROBES]
        if len(self.real[label]) < 2:
            return None
        found = self.search(
            self.features_MD[rows.to(self.features_MD.device)].cpu(), torch.full_like(rows, label), 2
        )
        return float(found[:, 1, 1].mean())
