"""Every evaluator, once per extractor, from features that one pass over each sample set gives."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from genplug.errors import CapabilityError
from genplug.extraction import Want
from genplug.extractors import score_name, spec_of
from genplug.features import gather, wanted
from genplug.matching import check_modality
from genplug.parts import Part
from genplug.protocols import EvalInputs, Score
from genplug.registry import Catalog
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.specs import EvaluatorSpec, ExtractorSpec, Modality

SETS = ("held_out", "samples", "train")


def judge(
    run: Run, evaluators: Sequence[Part], extractors: Sequence[str], inputs: EvalInputs
) -> dict[str, Score]:
    """Return every score of every evaluator, those on features once per extractor."""
    return judge_each(run, [(part, inputs) for part in evaluators], extractors)


def judge_each(
    run: Run, evaluators: Sequence[tuple[Part, EvalInputs]], extractors: Sequence[str]
) -> dict[str, Score]:
    """Return every score of every evaluator, each with its own inputs."""
    asked = [(part, checked(part, inputs, run.catalog, extractors)) for part, inputs in evaluators]
    wants: dict[int, list[Want]] = defaultdict(list)
    sets: dict[int, SampleSet] = {}
    for part, inputs in asked:
        spec = spec_of_evaluator(part)
        for samples in (getattr(inputs, name) for name in SETS if spec.takes(name)):
            if samples is not None:
                sets[id(samples)] = samples
                wants[id(samples)] += wants_of(spec, inputs.extractors)
    for key, samples in sets.items():
        gather(run, samples, wants[key])
    return {name: score for part, inputs in asked for name, score in _scores(run, part, inputs)}


def _scores(run: Run, part: Part, inputs: EvalInputs) -> Iterator[tuple[str, Score]]:
    """Yield the scores of one evaluator by the names under which they are known."""
    spec, evaluator = spec_of_evaluator(part), part.config.build(run)
    for extractor in inputs.extractors if spec.takes("features") else (None,):
        found = evaluator.evaluate(dataclasses.replace(inputs, extractor=extractor), run)
        for name, score in found.items():
            measure = max(
                (m for m in spec.scores if name == m or name.startswith(f"{m}-")), key=len, default=""
            )
            full = score_name(run, name, extractor) if extractor else name
            yield full, dataclasses.replace(score, measure=measure)


def wants_of(spec: EvaluatorSpec, extractors: Sequence[str]) -> list[Want]:
    """Return the features that an evaluator asks for of each set that it takes."""
    if not sees_features(spec):
        return []
    return [wanted(reference, output) for reference in extractors for output in (None, *spec.outputs)]


def sees_features(spec: EvaluatorSpec) -> bool:
    """Return whether an evaluator looks at features."""
    return spec.takes("features") or spec.takes("extractors")


def spec_of_evaluator(part: Part) -> EvaluatorSpec:
    """Return the spec of an evaluator."""
    spec = part.entry.spec
    assert isinstance(spec, EvaluatorSpec)
    return spec


def checked(part: Part, inputs: EvalInputs, catalog: Catalog, extractors: Sequence[str]) -> EvalInputs:
    """Return an evaluator's inputs with the extractors that suit it; refuse it where something lacks."""
    spec = spec_of_evaluator(part)
    check_modality(part, modality(inputs), f"{inputs.samples.name} holds")
    if lacking := missing(spec, available(inputs)):
        raise CapabilityError(f"evaluator {spec.name!r} needs {', '.join(lacking)}, which is not given")
    if sees_features(spec) and not extractors:
        raise CapabilityError(
            f"evaluator {spec.name!r} needs features; name an extractor that takes {modality(inputs)}"
        )
    return dataclasses.replace(inputs, extractors=suited(catalog, spec, extractors))


def suited(catalog: Catalog, spec: EvaluatorSpec, extractors: Sequence[str]) -> tuple[str, ...]:
    """Return the extractors that have the outputs that an evaluator needs by name."""
    if not sees_features(spec):
        return ()
    fit = tuple(name for name in extractors if set(spec.outputs) <= set(spec_of(catalog, name).outputs))
    if not fit:
        entries = [entry.spec for entry in catalog.entries["extractor"].values()]
        known = [
            e.name for e in entries if isinstance(e, ExtractorSpec) and set(spec.outputs) <= set(e.outputs)
        ]
        raise CapabilityError(
            f"evaluator {spec.name!r} needs an extractor with output {', '.join(spec.outputs)}; "
            f"those that have it: {', '.join(sorted(known)) or 'none'}"
        )
    return fit


def missing(spec: EvaluatorSpec, there: Iterable[str]) -> list[str]:
    """Return the inputs of which no alternative is there."""
    return [need.replace("|", " or ") for need in spec.inputs if not set(there) & set(need.split("|"))]


def modality(inputs: EvalInputs) -> Modality:
    """Return what kind of samples these are."""
    return "image" if len(inputs.samples.shape) == 3 else "points"


def available(inputs: EvalInputs) -> set[str]:
    """Return the names of the inputs that are there."""
    there = {"samples", "features", "extractors"}
    there |= {name for name in ("held_out", "train", "statistics") if getattr(inputs, name) is not None}
    there |= {"generators"} if inputs.generator is not None else set()
    return there | ({"images"} if modality(inputs) == "image" else set())
