"""Every evaluator, once per extractor, from features that one pass over each sample set gives."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from genplug.errors import CapabilityError, DataError
from genplug.extraction import Want
from genplug.extractors import score_name
from genplug.features import gather, wanted
from genplug.matching import check_modality, sees_features, suited
from genplug.parts import Part
from genplug.protocols import EvalInputs, Score
from genplug.registry import Catalog
from genplug.runtime import Run
from genplug.samplesets import SampleSet
from genplug.specs import EvaluatorSpec, Modality

#: How users give what an evaluator lacks.
REMEDIES = {
    "train": "name what the generator was trained on with --train SET (or --reference, where REAL is that)",
    "generators": "a run has them (genplug run)",
}
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
    widths: dict[Want, tuple[int, str]] = {}
    for key, samples in sets.items():
        for want, feat_ND in gather(run, samples, wants[key]).items():
            width, name = widths.setdefault(want, (feat_ND.shape[1], samples.name))
            if feat_ND.shape[1] != width:
                raise DataError(
                    f"{want} gives {width} features for {name} and {feat_ND.shape[1]} for {samples.name}: "
                    "it does not resize; name another extractor"
                )
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
        remedies = "".join(f"; {remedy}" for word, remedy in REMEDIES.items() if word in lacking)
        raise CapabilityError(
            f"evaluator {spec.name!r} needs {', '.join(lacking)}, which is not given{remedies}"
        )
    if sees_features(spec) and not extractors:
        raise CapabilityError(
            f"evaluator {spec.name!r} needs features; name an extractor that takes {modality(inputs)}"
        )
    return dataclasses.replace(inputs, extractors=suited(catalog, spec, extractors))


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
