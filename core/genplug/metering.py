"""`genplug.meter`: scores of samples that come in batches, as a sampling or training loop makes them.

    meter = genplug.meter(["frechet", "prdc"], real="digits:held-out", extractors=["pixels"])
    for images in sampler:
        meter.update(images)
    meter.compute()["fd-pixels"].value

Batches become features at once and are forgotten: what is kept is the feature matrix.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genplug.errors import CapabilityError, DataError
from genplug.evaluation import bound, check_alike, check_names, default_extractors, open_run, seeing
from genplug.extraction import Want, extract
from genplug.judging import judge, spec_of_evaluator, wants_of
from genplug.log import Log, Silent
from genplug.matching import suited
from genplug.opening import Openable, open_real, open_samples
from genplug.protocols import EvalInputs, Score
from genplug.resolving import Resolver
from genplug.runtime import Run
from genplug.samplesets import ArraySet, SampleSet

_PARTS = {"generated": "samples", "real": "held_out", "train": "train"}


def meter(
    evaluators: Sequence[str],
    *,
    real: Openable | None = None,
    train: Openable | None = None,
    extractors: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    log: Log | None = None,
) -> Meter:
    """Return a meter: `update` it with batches, `compute` scores of all that it saw.

    `real` and `train` are as in `genplug.evaluate`, opened once; real samples may come in batches
    too (`meter.update(real=images)`). Without `extractors`, those of `genplug.evaluate`.
    """
    check_names(evaluators, extractors)
    run, resolver = open_run("" if real is None else real, options, log or Silent())
    return Meter(run, resolver, evaluators, extractors, real, train)


class Meter:
    """Scores of samples that come in batches. Made by `genplug.meter`."""

    def __init__(
        self,
        run: Run,
        resolver: Resolver,
        evaluators: Sequence[str],
        extractors: Sequence[str],
        real: Openable | None,
        train: Openable | None,
    ) -> None:
        if run.accelerator.num_processes > 1:
            raise CapabilityError(
                "a meter sees the batches of one process; gather them, or use genplug.evaluate"
            )
        self._run, self._resolver, self._extractors = run, resolver, tuple(extractors)
        self._judges = resolver.named("evaluator", evaluators)
        for part in self._judges:
            for word in ("images", "generators"):
                if spec_of_evaluator(part).takes(word):
                    raise CapabilityError(
                        f"evaluator {part.name!r} needs {word}; a meter keeps features alone"
                    )
        held_out, self._statistics = (None, None) if real is None else open_real(run, real)
        opened = {"held_out": held_out, "train": None if train is None else open_samples(run, train)}
        self._opened = {name: samples for name, samples in opened.items() if samples is not None}
        self._seen: dict[str, _Seen] = {}

    def update(
        self, generated: Tensor | None = None, *, real: Tensor | None = None, train: Tensor | None = None
    ) -> None:
        """Add a batch: uint8 images NCHW in [0, 255], or float32 points ND, of any length."""
        for name, batch in {"generated": generated, "real": real, "train": train}.items():
            if batch is None or len(samples := as_tensor(batch, name)) == 0:
                continue
            if _PARTS[name] in self._opened:
                raise DataError(f"this meter was given its {name} samples when it was made")
            self._add(_PARTS[name], ArraySet(samples, name=name))

    def _add(self, part: str, samples: ArraySet) -> None:
        first = next(iter((*self._seen.values(), *self._opened.values())), samples)
        check_alike(EvalInputs(samples, first), self._run)
        if not self._run.extractors:
            chosen = self._extractors or default_extractors(self._run, self._resolver, EvalInputs(samples))
            self._extractors = tuple(chosen)
            self._run = seeing(self._run, self._resolver, self._extractors, EvalInputs(samples))
        seen = self._seen.setdefault(part, _Seen(samples.name, samples.shape))
        seen.add(len(samples), extract(self._run, samples, self._wants(part)))

    def _wants(self, part: str) -> list[Want]:
        """Return the features that the evaluators will ask for of a part."""
        found: dict[Want, None] = {}
        for judging in self._judges:
            spec = spec_of_evaluator(judging)
            if spec.takes(part):
                fit = suited(self._run.catalog, spec, self._extractors)
                found |= dict.fromkeys(wants_of(spec, fit))
        return list(found)

    def compute(self) -> dict[str, Score]:
        """Return the scores of everything seen so far; more may follow."""
        if "samples" not in self._seen:
            raise DataError("nothing to score: call update(generated) first")
        sets: dict[str, SampleSet] = {**self._opened, **self._seen}
        inputs = EvalInputs(
            sets["samples"], sets.get("held_out"), sets.get("train"), statistics=self._statistics
        )
        return judge(self._run, self._judges, self._extractors, bound(self._run, inputs))

    def reset(self) -> None:
        """Forget all batches; sets that were given when the meter was made stay."""
        self._seen.clear()


def as_tensor(batch: Any, name: str) -> Tensor:
    """Return a batch, a tensor or numpy array, as a tensor on the CPU."""
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(np.ascontiguousarray(batch))
    if not isinstance(batch, Tensor) or batch.ndim == 0:
        raise DataError(f"{name} samples must be a tensor or a numpy array, not {type(batch).__name__}")
    return batch.detach().cpu()


class _Seen:
    """Samples of which the features alone are kept, as a sample set (`samplesets.own_features`)."""

    labels: Tensor | None = None

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape, self._count = name, shape, 0
        self._parts: dict[Want, list[Tensor]] = defaultdict(list)

    def add(self, count: int, found: Mapping[Want, Tensor]) -> None:
        """Add the features of some samples."""
        self._count += count
        for want, feat_ND in found.items():
            self._parts[want].append(feat_ND)

    @property
    def fingerprint(self) -> str:
        """Return a digest of the features."""
        hasher = hashlib.sha256()
        for want in self._parts:
            hasher.update(f"{want}".encode() + self.own_features(want).numpy().tobytes())
        return hasher.hexdigest()

    def __len__(self) -> int:
        return self._count

    def read(self, rows: Sequence[int]) -> Tensor:
        """Refuse: the samples are gone."""
        raise DataError(f"the {self.name} samples of a meter are not kept, only their features")

    def own_features(self, want: Want) -> Tensor:
        """Return all rows."""
        if want not in self._parts:
            raise DataError(f"a meter keeps what its evaluators need; {want} of {self.name} is not there")
        self._parts[want] = [torch.cat(self._parts[want])]
        return self._parts[want][0]
