"""What an evaluator promises: named scores with intervals that depend on the samples alone."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from genplug.errors import GenplugError
from genplug.extractors import parse, spec_of
from genplug.parts import Part
from genplug.protocols import EvalInputs, Score
from genplug.random import NoiseSource
from genplug.registry import catalog
from genplug.runtime import Run
from genplug.samplesets import ArraySet
from genplug.specs import Better, EvaluatorSpec, GeneratorSpec
from genplug.testing.suite import ComponentSuite
from genplug.testing.workplace import BATCH, fresh, make_run, resolve_part

REAL, GENERATED = 96, 64
WIDTH = 8  # of images: small, and enough for every score to tell sets apart


class EvaluatorSuite(ComponentSuite):
    """Promises of an evaluator.

    `extractor` is the one that it judges features of, `extractors` are those of one that compares
    several; both are built with their `tiny` values.
    """

    kind: ClassVar[str] = "evaluator"
    extractor: ClassVar[str] = ""
    extractors: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def spec(self, part: Part) -> EvaluatorSpec:
        """Return the evaluator's spec."""
        spec = part.entry.spec
        assert isinstance(spec, EvaluatorSpec)
        return spec

    @pytest.fixture
    def run(self, spec: EvaluatorSpec, tmp_path: Path) -> Run:
        """Return a run of small batches on the CPU that knows the extractors."""
        return self._run(spec, tmp_path / "run")

    def _run(self, spec: EvaluatorSpec, directory: Path, batch: int = BATCH) -> Run:
        heads = {parse(name).head for name in (*self._several(spec), self._one(spec)) if name}
        parts = {head: resolve_part("extractor", head, {}) for head in sorted(heads)}
        return dataclasses.replace(make_run(directory, batch=batch), extractors=parts)

    def _one(self, spec: EvaluatorSpec) -> str:
        return (self.extractor or _extractor(spec)) if spec.takes("features") else ""

    def _several(self, spec: EvaluatorSpec) -> tuple[str, ...]:
        """Return extractors to compare: without others, one by two names."""
        if not spec.takes("extractors"):
            return ()
        name = _extractor(spec)
        return self.extractors or (name, f"{name}@{spec_of(catalog(), name).outputs[0]}")

    @pytest.fixture
    def inputs(self, spec: EvaluatorSpec) -> EvalInputs:
        """Return real and generated samples of one distribution, as much as the spec asks for."""
        return self._inputs(spec, _images(GENERATED, 0))

    def test_scores(self, part: Part, spec: EvaluatorSpec, inputs: EvalInputs, run: Run) -> None:
        """It gives the scores of its spec, each finite, within its interval, with counts."""
        scores = part.config.build(run).evaluate(inputs, run)
        if not scores and spec.takes("generators"):
            pytest.skip("it gives no scores for the kit's generator")
        unknown = [name for name in scores if not _measure(spec, name)]
        absent = set(spec.scores) - {_measure(spec, name) for name in scores}
        assert not unknown, f"scores {unknown}, the spec says {sorted(spec.scores)}"
        assert not absent, f"no score {sorted(absent)}"
        for name, score in scores.items():
            assert isinstance(score, Score), f"{name} is no Score"
            assert math.isfinite(score.value), f"{name} is {score.value}"
            assert score.low <= score.value <= score.high, f"{name}: [{score.low}, {score.high}]"
            assert score.interval, f"{name} does not say what its interval is"
            counts = (0, len(inputs.samples)) if "samples" not in spec.inputs else (len(inputs.samples),)
            assert score.n_generated in counts, f"{name}: n_generated {score.n_generated}"
            assert "features" not in spec.inputs or score.extractor == inputs.extractor, (
                f"{name} names extractor {score.extractor!r}"
            )

    def test_directions(self, spec: EvaluatorSpec) -> None:
        """For every score it says what is better: lower, higher or a number."""
        assert spec.scores, "it names no scores"
        for name, better in spec.scores.items():
            assert better in ("lower", "higher") or isinstance(better, (int, float)), f"{name}: {better!r}"

    def test_order(self, part: Part, spec: EvaluatorSpec, inputs: EvalInputs, run: Run) -> None:
        """The order of the samples does not matter."""
        turned = dataclasses.replace(
            inputs,
            samples=_turned(inputs.samples, 0),
            held_out=_turned(inputs.held_out, 1),
            train=_turned(inputs.train, 2),
        )
        _alike(self._repeated(part, inputs, run), self._repeated(part, turned, run))

    def test_batches(self, part: Part, inputs: EvalInputs, run: Run, tmp_path: Path) -> None:
        """The batch size does not matter, and a second evaluation gives the same."""
        spec, first = part.entry.spec, self._repeated(part, inputs, run)
        assert isinstance(spec, EvaluatorSpec)
        _alike(first, self._repeated(part, inputs, run))
        _alike(first, self._repeated(part, inputs, self._run(spec, tmp_path / "other", 17)))

    def test_good_and_bad(self, part: Part, spec: EvaluatorSpec, inputs: EvalInputs, run: Run) -> None:
        """Samples of the real distribution score better than noise, or than copies of one of them."""
        compares = spec.takes("samples") and (spec.takes("held_out") or spec.takes("train"))
        if spec.takes("generators") or not compares:
            pytest.skip("does not compare samples with real ones")
        shape, g = (GENERATED, 1, WIDTH, WIDTH), torch.Generator().manual_seed(0)
        noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=g)
        good = self._values(part, inputs, run)
        bad = [
            self._values(part, self._inputs(spec, images), run)
            for images in (noise, _images(1, 0).expand(shape).contiguous())
        ]
        assert any(
            _better(spec.scores[_measure(spec, name)], good[name], values[name])
            for values in bad
            for name in good
        ), f"samples of the data {good}, noise {bad[0]}, one sample again and again {bad[1]}"

    def test_too_few(self, part: Part, spec: EvaluatorSpec, run: Run) -> None:
        """With a single sample it gives scores, or says that they are too few as a user's mistake."""
        one = self._inputs(spec, _images(1, 0))
        with contextlib.suppress(GenplugError):
            part.config.build(run).evaluate(one, run)

    def _values(self, part: Part, inputs: EvalInputs, run: Run) -> dict[str, float]:
        scores: Mapping[str, Score] = part.config.build(run).evaluate(inputs, run)
        return {name: score.value for name, score in scores.items()}

    def _repeated(self, part: Part, inputs: EvalInputs, run: Run) -> dict[str, float]:
        """Return the scores that must be equal each time, and the ends of their intervals."""
        spec = part.entry.spec
        assert isinstance(spec, EvaluatorSpec)
        scores: Mapping[str, Score] = part.config.build(run).evaluate(inputs, run)
        kept = {name: score for name, score in scores.items() if _measure(spec, name) not in spec.measured}
        ends = ("value", "low", "high")
        return {f"{name} ({end})": getattr(score, end) for name, score in kept.items() for end in ends}

    def _inputs(self, spec: EvaluatorSpec, images: Tensor) -> EvalInputs:
        """Return inputs of images, or of points where the evaluator takes those alone."""

        def made(samples: Tensor, name: str) -> ArraySet:
            flat = samples.float().flatten(1)[:, :2] / 255
            return ArraySet(flat if spec.modality == "points" else samples, name=name)

        generator = _generator(spec) if spec.takes("generators") else None
        return EvalInputs(
            made(images, "generated"),
            held_out=made(_images(REAL, 1), "held-out"),
            train=made(_images(REAL, 2), "train"),
            extractor=self._one(spec) or None,
            extractors=self._several(spec),
            generator=generator,
            base=generator,
        )


def _images(count: int, set_number: int) -> Tensor:
    """Return images of two kinds, dark on the left or dark on top, with noise."""
    seeds_N = torch.arange(count) + 1000 * set_number
    ramp = torch.linspace(40, 200, WIDTH).expand(WIDTH, WIDTH)
    kinds = torch.stack([ramp, ramp.T])[seeds_N % 2][:, None]
    noise = NoiseSource(seeds_N).normal((count, 1, WIDTH, WIDTH), "image")
    return (kinds + 12 * noise).clamp(0, 255).to(torch.uint8)


def _extractor(spec: EvaluatorSpec) -> str:
    """Return an installed extractor that takes the kit's samples and has the outputs: raw values first."""
    entries = catalog().entries["extractor"]
    fits = [
        name
        for name, e in entries.items()
        if {"any", spec.modality} & {e.spec.modality, "any"}
        and set(spec.outputs) <= set(spec_of(catalog(), name).outputs)
    ]
    plain = [name for name in fits if entries[name].spec.modality == "any"]
    if not fits:
        pytest.skip("no extractor is installed")
    return min(plain or fits, key=lambda name: (name != "pixels", name))


def _generator(spec: EvaluatorSpec) -> Any:
    """Return a small installed generator that the evaluator can look at."""
    for name, entry in sorted(catalog().entries["generator"].items()):
        if isinstance(entry.spec, GeneratorSpec) and spec.modality in ("any", entry.spec.modality):
            try:
                return fresh(resolve_part("generator", name, {}))
            except GenplugError:  # it needs options that only its author knows
                continue
    pytest.skip("no generator is installed that can be built without options")


def _measure(spec: EvaluatorSpec, name: str) -> str:
    """Return the spec's own name of a score; empty if it has none."""
    return max((s for s in spec.scores if name == s or name.startswith(f"{s}-")), key=len, default="")


def _turned(samples: Any, number: int) -> ArraySet:
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(number))
    return ArraySet(samples.samples[order], name=samples.name)


def _alike(a: Mapping[str, float], b: Mapping[str, float]) -> None:
    for name in a:
        assert math.isclose(a[name], b[name], rel_tol=1e-5, abs_tol=1e-7), f"{name}: {a[name]} and {b[name]}"


def _better(way: Better, a: float, b: float) -> bool:
    if isinstance(way, (int, float)):
        return abs(a - way) < abs(b - way)
    return a < b if way == "lower" else a > b
