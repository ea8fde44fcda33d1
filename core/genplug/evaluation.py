"""Judging sample sets: every evaluator, once per extractor, over seed blocks."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from genplug.config import validate
from genplug.errors import CapabilityError, DataError
from genplug.log import Log, Silent
from genplug.opening import open_samples
from genplug.protocols import EvalInputs, Score
from genplug.registry import Catalog
from genplug.resolve import Part
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import SampleSet
from genplug.settings import RunSettings, RuntimeSettings
from genplug.specs import EvaluatorSpec


def evaluate(
    real: Any,
    generated: Any,
    *,
    train: Any = None,
    evaluators: Sequence[str] = (),
    extractors: Sequence[str] = ("pixels",),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    settings: RunSettings | None = None,
    log: Log | None = None,
) -> dict[str, Score]:
    """Judge generated samples against real ones.

    `real`, `generated` and `train` are anything that `opening.open_samples` takes: paths, data
    sets, runs, tensors (uint8 NCHW or float32 ND). `train` is the data that the generator was
    trained on, for evaluators that ask about it. Without `evaluators`, all that the inputs allow.
    """
    settings = settings or RunSettings()
    run = Run(make_accelerator(settings, RuntimeSettings()), settings, log=log or Silent())
    inputs = EvalInputs(
        samples=open_samples(run, generated, settings.skip_bad),
        held_out=open_samples(run, real, settings.skip_bad),
        train=open_samples(run, train, settings.skip_bad) if train is not None else None,
    )
    check_alike(inputs)
    names = evaluators or fitting(run.catalog, inputs)
    parts = [_part(run.catalog, name, (options or {}).get(name, {})) for name in names]
    return judge(run, parts, extractors, inputs)


def judge(run: Run, evaluators: Sequence[Part], extractors: Sequence[str], inputs: EvalInputs) -> dict[str, Score]:
    """Return every score of every evaluator, those on features once per extractor."""
    scores: dict[str, Score] = {}
    for part in evaluators:
        spec = part.entry.spec
        assert isinstance(spec, EvaluatorSpec)
        _check_inputs(spec, inputs)
        evaluator = part.config.build(run)  # type: ignore[attr-defined]
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
                f"{inputs.samples.name} has samples of shape {inputs.samples.shape}, {other.name} of {other.shape}; "
                "bring both to one size with one filter"
            )


def fitting(catalog: Catalog, inputs: EvalInputs) -> list[str]:
    """Return the evaluators whose inputs are there."""
    there = available(inputs)
    modality = "image" if len(inputs.samples.shape) == 3 else "points"
    return [
        name
        for name in catalog.names("evaluator")
        if isinstance(spec := catalog.get("evaluator", name).spec, EvaluatorSpec)
        and set(spec.inputs) <= there
        and spec.modality in ("any", modality)
    ]


def available(inputs: EvalInputs) -> set[str]:
    """Return the names of the inputs that are there."""
    there = {"samples", "features"}
    there |= {name for name in ("held_out", "train") if getattr(inputs, name) is not None}
    there |= {"generators"} if inputs.generator is not None else set()
    return there | ({"images"} if len(inputs.samples.shape) == 3 else set())


def _check_inputs(spec: EvaluatorSpec, inputs: EvalInputs) -> None:
    missing = [name for name in spec.inputs if name not in available(inputs)]
    if missing:
        raise CapabilityError(f"evaluator {spec.name!r} needs {', '.join(missing)}, which is not given")


def _part(catalog: Catalog, name: str, options: Mapping[str, Any]) -> Part:
    entry = catalog.get("evaluator", name)
    return Part(entry, validate(entry.config_model(), options, f"evaluator.{name}"))


def over_blocks(blocks: Sequence[Mapping[str, Score]]) -> dict[str, dict[str, Any]]:
    """Join the scores of seed blocks: mean, and mean -+ 2 standard deviations of a block.

    With one block, the evaluator's own interval is kept.
    """
    return {name: _joined([block[name] for block in blocks]) for name in blocks[0]}


def _joined(scores: Sequence[Score]) -> dict[str, Any]:
    values = [score.value for score in scores]
    joined: dict[str, Any] = dataclasses.asdict(scores[0])
    joined["extra"] = {key: value for key, value in joined["extra"].items() if key != "plot"}
    joined["seeds"] = ", ".join(dict.fromkeys(score.seeds for score in scores if score.seeds))
    if len(values) > 1:
        mean, spread = statistics.fmean(values), statistics.stdev(values)
        joined |= {"value": mean, "low": mean - 2 * spread, "high": mean + 2 * spread, "spread": spread}
        joined |= {"interval": f"mean -+ 2 standard deviations of {len(values)} seed blocks", "blocks": values}
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in joined.items()}
