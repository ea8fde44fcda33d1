"""`genplug.evaluate`: two sample sets, opened, compared and judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from genplug.comparing import compare, describe
from genplug.config import flatten, validate
from genplug.errors import CapabilityError, ConfigError, DataError, WeightsError
from genplug.extractors import parse, preset_of, spec_of
from genplug.judging import available, judge_each, missing, modality
from genplug.layers import layer
from genplug.log import Heard, Log, Silent
from genplug.matching import check_modality
from genplug.opening import Openable, open_real, open_samples
from genplug.parts import Part
from genplug.presets import registry
from genplug.protocols import EvalInputs, Score
from genplug.registry import Catalog, catalog
from genplug.resolving import Resolver, run_settings
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import Coloured, SampleSet
from genplug.settings import RuntimeSettings
from genplug.specs import EvaluatorSpec
from genplug.statistics import Statistics
from genplug.weights import find

SECTIONS = ("run", "runtime", "extractor", "evaluator")


class Evaluation(dict[str, Score]):
    """Scores by name, with what they are of.

    `facts` is plain data: the sets, copies between them, class balance, which features were cached,
    warnings. `sets` are the samples by their part: `real`, `generated`, `train`, `reference`.
    """

    def __init__(
        self, scores: Mapping[str, Score], facts: Mapping[str, Any], sets: Mapping[str, SampleSet]
    ) -> None:
        super().__init__(scores)
        self.facts, self.sets = facts, sets


def evaluate(
    real: Openable,
    generated: Openable,
    *,
    train: Openable | None = None,
    reference: Openable | None = None,
    evaluators: Sequence[str] = (),
    extractors: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    log: Log | None = None,
) -> Evaluation:
    """Judge generated samples against real ones.

    All sets are anything that `opening.open_samples` takes: paths, data sets, runs, tensors (uint8
    NCHW or float32 ND); `real` may also be a file of statistics. For evaluators that ask about training
    data, either `train` is what the generator was trained on and `real` was held out; or `real` is
    what it was trained on and `reference` was held out. Without `evaluators` or `extractors`, the
    registry's defaults that fit these samples. `options` are configuration values by
    their keys: `{"evaluator.prdc.k": 3, "run.batch_size": 64}`.
    """
    if train is not None and reference is not None:
        raise DataError("give train (real was held out) or reference (real was trained on), not both")
    check_names(evaluators, extractors)
    heard = Heard(log or Silent())
    run, resolver = open_run(real, options, heard)
    inputs = open_inputs(run, real, generated, train)
    held_out = open_samples(run, reference) if reference is not None else None
    asking = dataclasses.replace(inputs, train=inputs.held_out, held_out=held_out) if held_out else inputs
    asking = in_colour(asking, run)
    check_alike(asking, run)
    evaluators, extractors = chosen(run, resolver, inputs, asking, evaluators, extractors)
    run = seeing(run, resolver, extractors, inputs)
    judging = resolver.named("evaluator", evaluators)
    inputs, asking = (bound(run, one) for one in (inputs, asking))
    sets = _sets(inputs, held_out)
    facts = _facts(run, sets, inputs.statistics)
    scores = judge_each(run, [(p, asking if asks_training(p) else inputs) for p in judging], extractors)
    told: Mapping[tuple[str, str], bool] = run.once("features.told", lambda run: {})
    features = [{"samples": n, "extractor": want, "cached": cached} for (n, want), cached in told.items()]
    return Evaluation(scores, {**facts, "features": features, "warnings": heard.warnings}, sets)


def check_names(evaluators: Sequence[str], extractors: Sequence[str]) -> None:
    """Refuse unknown evaluators and extractors before anything is opened."""
    installed = catalog()
    for kind, names in (("evaluators", evaluators), ("extractors", extractors)):
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{kind} must be a list of names, not {names!r}")
    for name in evaluators:
        installed.get("evaluator", name)
    for name in extractors:
        spec_of(installed, name)


def features_of(
    samples: Openable, extractor: str, options: Mapping[str, Any] | None = None, log: Log | None = None
) -> tuple[Tensor, str]:
    """Return the features of a sample set, float32 ND on the CPU, and the extractor's fingerprint.

    `options` are configuration values by their keys: `{"run.batch_size": 64}`.
    """
    run, resolver = open_run("", options, log or Silent())
    opened = open_samples(run, samples)
    run = seeing(run, resolver, [extractor], EvalInputs(opened))
    return run.features(opened, extractor), run.extractor(extractor).fingerprint


def open_run(real: Openable, options: Mapping[str, Any] | None, log: Log) -> tuple[Run, Resolver]:
    """Return a run without a directory, and what resolves its extractors and evaluators."""
    installed = catalog()
    data, layers = registry(installed), layer({}, list(flatten(options or {})), sections=SECTIONS)
    settings = run_settings(data, layers, real.partition(":")[0] if isinstance(real, str) else "")
    runtime = validate(RuntimeSettings, layers.section("runtime"), "runtime", layers.origins)
    run = Run(make_accelerator(settings, runtime), settings, log=log, catalog=installed)
    return run, Resolver(installed, data, layers)


def open_inputs(run: Run, real: Openable, generated: Openable, train: Openable | None) -> EvalInputs:
    """Open what is to be judged, and refuse sets of different shapes."""
    held_out, statistics = open_real(run, real)
    inputs = EvalInputs(
        held_out=held_out,
        statistics=statistics,
        samples=open_samples(run, generated),
        train=open_samples(run, train) if train is not None else None,
    )
    inputs = in_colour(inputs, run)
    check_alike(inputs, run)
    return inputs


def in_colour(inputs: EvalInputs, run: Run) -> EvalInputs:
    """Return grey images over three channels where others are in colour, and say so."""
    sets = (inputs.samples, inputs.held_out, inputs.train)
    if {s.shape[0] for s in sets if s is not None and len(s.shape) == 3} != {1, 3}:
        return inputs

    def coloured(samples: SampleSet | None) -> SampleSet | None:
        if samples is None or len(samples.shape) != 3 or samples.shape[0] == 3:
            return samples
        run.log.warn(f"{samples.name}: grey read as RGB, as the others are in colour")
        return Coloured(samples)

    return dataclasses.replace(
        inputs,
        samples=coloured(inputs.samples) or inputs.samples,
        held_out=coloured(inputs.held_out),
        train=coloured(inputs.train),
    )


def seeing(run: Run, resolver: Resolver, extractors: Sequence[str], inputs: EvalInputs) -> Run:
    """Return the run with its extractors resolved; their weights must be there, and they must fit."""
    parts = resolver.extractors(extractors)
    for part in parts:
        check_modality(part, modality(inputs), f"{inputs.samples.name} holds")
        find(preset_of(part), part.weights)
    return dataclasses.replace(run, extractors={part.head: part for part in parts})


def bound(run: Run, inputs: EvalInputs) -> EvalInputs:
    """Return inputs whose statistics know what the run's extractors are called and are."""
    if inputs.statistics is None:
        return inputs
    known = dataclasses.replace(
        inputs.statistics,
        known_as=lambda head: _published_name(run, head),
        fingerprint_of=lambda head: run.extractor(head).fingerprint,
        warn=lambda text: run.once(f"warned.{text}", lambda _: run.log.warn(text)),
    )
    return dataclasses.replace(inputs, statistics=known)


def _published_name(run: Run, head: str) -> str:
    """Return under which name the Frechet distance on an extractor is published; empty if it is not.

    Either the extractor says so, or it is its family's default network with its weights and options as they
    are published: `fd-FAMILY`.
    """
    if name := getattr(run.extractor(head), "score_names", {}).get("fd", ""):
        return str(name)
    part = run.extractors.get(head)
    if part is None or part.preset is None or part.weights is not None:
        return ""
    as_published = validate(part.entry.config_model(), part.preset.values, part.name) == part.config
    is_default = part.preset.name == part.entry.spec.preset
    return f"fd-{part.name}" if as_published and is_default else ""


def _sets(inputs: EvalInputs, reference: SampleSet | None) -> dict[str, SampleSet]:
    """Return the sample sets that are there by their part."""
    sets = {
        "real": inputs.held_out,
        "generated": inputs.samples,
        "train": inputs.train,
        "reference": reference,
    }
    return {name: samples for name, samples in sets.items() if samples is not None}


def _facts(run: Run, sets: Mapping[str, SampleSet], statistics: Statistics | None) -> dict[str, Any]:
    """Return what the sets are and how they compare; what disturbs scores is warned of."""
    facts: dict[str, Any] = {name: describe(one) for name, one in sets.items()}
    if statistics is not None:
        facts["statistics"] = statistics.name
    pairs = (("real", "generated"), ("train", "real"), ("train", "generated"), ("real", "reference"))
    for first, second in pairs:
        if first in sets and second in sets:
            facts[f"{first} and {second}"] = compare(sets[first], sets[second], run.log)
    return facts


def asks_training(part: Part) -> bool:
    """Return whether an evaluator looks at training data."""
    spec = part.entry.spec
    return isinstance(spec, EvaluatorSpec) and spec.takes("train")


def chosen(
    run: Run,
    resolver: Resolver,
    inputs: EvalInputs,
    asking: EvalInputs,
    evaluators: Sequence[str],
    extractors: Sequence[str],
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the named evaluators and extractors, or the default ones that fit."""
    fit = fitting(run.catalog, inputs, asking)
    if not evaluators and not fit:
        raise CapabilityError("no installed evaluator fits these samples")
    names = evaluators or [name for name in run.settings.evaluators if name in fit] or fit
    return names, extractors or default_extractors(run, resolver, inputs)


def default_extractors(run: Run, resolver: Resolver, inputs: EvalInputs) -> list[str]:
    """Return the extractors that somebody set for such samples, else the first whose weights are here.

    `[evaluate]` of the registry says in which order they are tried.
    """
    there = fitting_extractors(resolver.catalog, inputs)
    wished = run.settings.extractors if "extractors" in run.settings.model_fields_set else ()
    if fit := [name for name in wished if parse(name).family in there]:
        return fit
    ordered: list[str] = resolver.data.defaults.get("evaluate", {}).get("extractors", [])
    for name in (*(name for name in ordered if parse(name).family in there), *there):
        try:
            (part,) = resolver.extractors([name])
            find(preset_of(part), part.weights)
        except (WeightsError, CapabilityError):
            continue
        return [name]
    return []


def check_alike(inputs: EvalInputs, run: Run) -> None:
    """Refuse sets whose samples have different shapes: a silent resize would change every score."""
    mine = inputs.samples.shape
    for other in (inputs.held_out, inputs.train):
        if other is None or other.shape == mine:
            continue
        if run.settings.mixed_sizes and len(other.shape) == len(mine) == 3:
            run.once(f"resized.{other.name}", partial(_warn_resized, inputs.samples, other))
            continue
        if len(other.shape) != len(mine):
            raise DataError(
                f"{inputs.samples.name} has samples of shape {mine}, {other.name} of {other.shape}: "
                "images and points cannot be compared"
            )
        remedy = ", or let every extractor resize each image by itself (--mixed-sizes)" * (len(mine) == 3)
        raise DataError(
            f"{inputs.samples.name} has samples of shape {mine}, {other.name} of {other.shape}; "
            f"bring both to one size with one filter{remedy}"
        )


def _warn_resized(first: SampleSet, second: SampleSet, run: Run) -> None:
    """Say what different sizes mean for the scores."""
    sizes = [
        f"{one.shape[2]} x {one.shape[1]}" if one.shape[1] else "of several sizes" for one in (first, second)
    ]
    run.log.warn(
        f"images of {first.name} are {sizes[0]}, those of {second.name} {sizes[1]}: extractors resize each, "
        "and scores show what the resizing does too"
    )


def fitting(catalog: Catalog, *choices: EvalInputs) -> list[str]:
    """Return the evaluators whose inputs are there in one of the choices."""
    wanted, there = ("any", modality(choices[0])), [available(inputs) for inputs in choices]
    specs = [catalog.get("evaluator", name).spec for name in catalog.names("evaluator")]
    return [
        spec.name
        for spec in specs
        if isinstance(spec, EvaluatorSpec)
        and spec.modality in wanted
        and any(not missing(spec, words) for words in there)
    ]


def fitting_extractors(catalog: Catalog, inputs: EvalInputs) -> list[str]:
    """Return the extractors that take such samples."""
    entries = catalog.entries["extractor"]
    return [
        name
        for name in catalog.names("extractor")
        if entries[name].spec.modality in ("any", modality(inputs))
    ]
