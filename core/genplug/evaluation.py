"""Judging sample sets: every evaluator, once per extractor, over seed blocks."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from genplug.config import flatten
from genplug.errors import CapabilityError, DataError
from genplug.log import Log, Silent
from genplug.matching import check_modality
from genplug.opening import Openable, open_samples
from genplug.parts import Part
from genplug.presets import registry
from genplug.protocols import EvalInputs, Score
from genplug.registry import Catalog, catalog
from genplug.resolving import Resolver, layer, run_settings
from genplug.runtime import Run, make_accelerator
from genplug.settings import RuntimeSettings
from genplug.specs import EvaluatorSpec, Modality

SECTIONS = ("run", "extractor", "evaluator")


def evaluate(
    real: Openable,
    generated: Openable,
    *,
    train: Openable | None = None,
    evaluators: Sequence[str] = (),
    extractors: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    log: Log | None = None,
) -> dict[str, Score]:
    """Judge generated samples against real ones.

    `real`, `generated` and `train` are anything that `opening.open_samples` takes: paths, data
    sets, runs, tensors (uint8 NCHW or float32 ND). `train` is the data that the generator was
    trained on, for evaluators that ask about it. Without `evaluators` or `extractors`, the
    registry's defaults of a run that fit these samples, else all that fit. `options` are
    configuration values by their keys: `{"evaluator.prdc.k": 3, "run.batch_size": 64}`.
    """
    installed = catalog()
    for kind, names in (("evaluator", evaluators), ("extractor", extractors)):
        for name in names:
            installed.get(kind, name)
    data, layers = registry(installed), layer({}, list(flatten(options or {})), sections=SECTIONS)
    settings = run_settings(data, layers, real.partition(":")[0] if isinstance(real, str) else "")
    run = Run(make_accelerator(settings, RuntimeSettings()), settings, log=log or Silent(), catalog=installed)
    inputs = open_inputs(run, real, generated, train)
    evaluators, extractors = chosen(run, inputs, evaluators, extractors)
    resolver = Resolver(installed, data, layers)
    seeing, judging = resolver.named("extractor", extractors), resolver.named("evaluator", evaluators)
    for part in seeing:
        check_modality(part, modality(inputs), f"{inputs.samples.name} holds")
    run = dataclasses.replace(run, extractors={part.name: part.config for part in seeing})
    return judge(run, judging, extractors, inputs)


def open_inputs(run: Run, real: Openable, generated: Openable, train: Openable | None) -> EvalInputs:
    """Open what is to be judged, and refuse sets of different shapes."""
    inputs = EvalInputs(
        held_out=open_samples(run, real),
        samples=open_samples(run, generated),
        train=open_samples(run, train) if train is not None else None,
    )
    check_alike(inputs)
    return inputs


def chosen(
    run: Run, inputs: EvalInputs, evaluators: Sequence[str], extractors: Sequence[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the named evaluators and extractors, or the run's as far as they fit, or all that fit."""
    fit, seeing = fitting(run.catalog, inputs), fitting_extractors(run.catalog, inputs)
    if not evaluators and not fit:
        raise CapabilityError("no installed evaluator fits these samples")
    return (
        evaluators or [name for name in run.settings.evaluators if name in fit] or fit,
        extractors or [name for name in run.settings.extractors if name in seeing] or seeing,
    )


def judge(
    run: Run, evaluators: Sequence[Part], extractors: Sequence[str], inputs: EvalInputs
) -> dict[str, Score]:
    """Return every score of every evaluator, those on features once per extractor."""
    scores: dict[str, Score] = {}
    for part in evaluators:
        spec = part.entry.spec
        assert isinstance(spec, EvaluatorSpec)
        _check_inputs(part, spec, inputs, extractors)
        evaluator = part.config.build(run)
        for extractor in extractors if "features" in spec.inputs else (None,):
            found = evaluator.evaluate(dataclasses.replace(inputs, extractor=extractor), run)
            for name, score in found.items():
                scores[f"{name}-{extractor}" if extractor else name] = score
    return scores


def check_alike(inputs: EvalInputs) -> None:
    """Refuse sets whose samples have different shapes: a silent resize would change every score."""
    for other in (inputs.held_out, inputs.train):
        if other is not None and other.shape != inputs.samples.shape:
            raise DataError(
                f"{inputs.samples.name} has samples of shape {inputs.samples.shape}, "
                f"{other.name} of {other.shape}; bring both to one size with one filter"
            )


def fitting(catalog: Catalog, inputs: EvalInputs) -> list[str]:
    """Return the evaluators whose inputs are there."""
    there, wanted = available(inputs), ("any", modality(inputs))
    specs = [catalog.get("evaluator", name).spec for name in catalog.names("evaluator")]
    return [
        spec.name
        for spec in specs
        if isinstance(spec, EvaluatorSpec) and set(spec.inputs) <= there and spec.modality in wanted
    ]


def fitting_extractors(catalog: Catalog, inputs: EvalInputs) -> list[str]:
    """Return the extractors that take such samples."""
    entries = catalog.entries["extractor"]
    return [
        name
        for name in catalog.names("extractor")
        if entries[name].spec.modality in ("any", modality(inputs))
    ]


def modality(inputs: EvalInputs) -> Modality:
    """Return what kind of samples these are."""
    return "image" if len(inputs.samples.shape) == 3 else "points"


def available(inputs: EvalInputs) -> set[str]:
    """Return the names of the inputs that are there."""
    there = {"samples", "features"}
    there |= {name for name in ("held_out", "train") if getattr(inputs, name) is not None}
    there |= {"generators"} if inputs.generator is not None else set()
    return there | ({"images"} if modality(inputs) == "image" else set())


def _check_inputs(part: Part, spec: EvaluatorSpec, inputs: EvalInputs, extractors: Sequence[str]) -> None:
    check_modality(part, modality(inputs), f"{inputs.samples.name} holds")
    missing = [name for name in spec.inputs if name not in available(inputs)]
    if missing:
        raise CapabilityError(f"evaluator {spec.name!r} needs {', '.join(missing)}, which is not given")
    if "features" in spec.inputs and not extractors:
        raise CapabilityError(
            f"evaluator {spec.name!r} needs features; name an extractor that takes {modality(inputs)}"
        )


def over_blocks(blocks: Sequence[Mapping[str, Score]]) -> dict[str, dict[str, Any]]:
    """Join the scores of seed blocks: mean, and mean -+ 2 standard deviations of a block.

    With one block, the evaluator's own interval is kept.
    """
    names = dict.fromkeys(name for block in blocks for name in block)
    return {name: _joined([block[name] for block in blocks if name in block]) for name in names}


def _joined(scores: Sequence[Score]) -> dict[str, Any]:
    values = [score.value for score in scores]
    joined: dict[str, Any] = dataclasses.asdict(scores[0])
    joined["extra"] = {key: value for key, value in joined["extra"].items() if key != "plot"}
    joined["seeds"] = ", ".join(dict.fromkeys(score.seeds for score in scores if score.seeds))
    if len(values) > 1:
        joined |= _spread(values)
        joined |= {"interval": f"mean -+ 2 standard deviations of {len(values)} seed blocks"}
        joined |= {"blocks": [_finite(value) for value in values]}
    return {key: _finite(value) for key, value in joined.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not all(map(math.isfinite, values)):
        return dict.fromkeys(("value", "low", "high", "spread"), math.nan)
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    return {"value": mean, "low": mean - 2 * spread, "high": mean + 2 * spread, "spread": spread}


def _finite(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are not finite become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
