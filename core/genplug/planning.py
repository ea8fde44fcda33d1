"""`run --plan`: what would run, what it needs and what it costs, without running anything."""

from __future__ import annotations

from typing import Any

from genplug.chains import models
from genplug.config import Component, Kind, validate
from genplug.errors import WeightsError
from genplug.extractors import preset_of
from genplug.matching import provided, said
from genplug.parts import Part, Reference, Resolved
from genplug.resolving import default_directory
from genplug.specs import ObjectiveSpec
from genplug.weights import find, is_shipped


def plan(resolved: Resolved) -> dict[str, Any]:
    """Return the plan of a run as plain data; imports no torch."""
    return {
        "out": str(default_directory(resolved)),
        "generator": _generator(resolved.generator),
        "objectives": [_objective(part) for part in resolved.objectives],
        "sweep": resolved.sweep.model_dump(mode="json") if resolved.sweep else None,
        "models": list(models(resolved)),
        "second_generators": [_second(reference) for reference in resolved.references],
        "dataset": resolved.dataset.record(),
        "samples": _samples(resolved),
        "extractors": [part.reference for part in resolved.extractors],
        "extractor_weights": {part.reference: _extractor_weights(part) for part in resolved.all_extractors},
        "evaluators": [part.name for part in resolved.evaluators],
    }


def _generator(part: Part) -> dict[str, Any]:
    preset = part.preset
    return {
        **part.record(),
        "package": str(part.entry.package),
        "provides": sorted(provided(part)),
        "weights": weights_status(part),
        "licence": preset.licence if preset else None,
        "published": [
            f"{p.score} {p.value:g} ({p.source}{'; ' + p.settings if p.settings else ''})"
            for p in preset.published
        ]
        if preset
        else [],
    }


def weights_status(part: Part) -> str:
    """Say where the weights are, or what has to be fetched from where."""
    try:
        path = find(part.preset, part.weights)
    except WeightsError as error:
        return f"MISSING: {error}"
    if path is None:
        return "none: random weights" if "trainable" in provided(part) else "none needed"
    shipped = not part.weights and part.preset is not None and is_shipped(part.preset)
    return f"shipped at {path}" if shipped else str(path)


def _extractor_weights(part: Part) -> str:
    """Say where an extractor's weights are, or what has to be fetched."""
    try:
        path = find(preset_of(part), part.weights)
    except WeightsError as error:
        return f"MISSING: {error}"
    return "none needed" if path is None else str(path)


def _objective(part: Part) -> dict[str, Any]:
    spec = part.entry.spec
    assert isinstance(spec, ObjectiveSpec)
    cost = getattr(part.config, "cost", None)
    return {
        **part.record(),
        "package": str(part.entry.package),
        "stage": spec.stage,
        "needs": list(said(part, "needs")),
        "cost": cost() if cost else {},
    }


def _second(reference: Reference) -> dict[str, Any]:
    found = {"of": reference.owner.name, "key": reference.key, "generator": reference.text}
    return {**found, "weights": weights_status(reference.part)}


def _samples(resolved: Resolved) -> dict[str, Any]:
    settings = resolved.run
    sets = len(models(resolved))
    count = settings.samples * settings.blocks
    evaluations = _evaluations(resolved)
    guides = sum(reference.owner is resolved.generator for reference in resolved.references)
    evaluations = None if evaluations is None else evaluations * (1 + guides)
    return {
        "per_generator": count,
        "blocks": settings.blocks,
        "evaluations_per_sample": evaluations,
        "evaluations": None if evaluations is None else evaluations * count * sets,
    }


def _evaluations(resolved: Resolved) -> int | None:
    """Return network evaluations per sample, as the base generator's sampler counts them."""
    config = resolved.generator.config
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Component) and Kind("sampler") in info.metadata:
            sampler = validate(
                resolved.catalog.get("sampler", value.name).config_model(), value.options, name
            )
            count = getattr(sampler, "evaluations", None)
            return count() if count else None
    return None
