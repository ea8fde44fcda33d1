"""`genplug evaluate --list`: what can judge, and what it needs."""

from __future__ import annotations

from typing import Any

from genplug.errors import GenplugError
from genplug.extractors import preset_of
from genplug.layers import Layers
from genplug.presets import registry
from genplug.registry import catalog
from genplug.resolving import Resolver
from genplug.specs import EvaluatorSpec, ExtractorSpec, arrow
from genplug.weights import find
from genplug_cli.terminal import table


def judges() -> dict[str, list[dict[str, Any]]]:
    """Return evaluators and extractors as data; imports no torch."""
    installed = catalog()
    resolver = Resolver(installed, registry(installed), Layers({}, {}))
    evaluators = [installed.get("evaluator", name).spec for name in installed.names("evaluator")]
    extractors = [installed.get("extractor", name).spec for name in installed.names("extractor")]
    return {
        "evaluators": [_evaluator(spec) for spec in evaluators if isinstance(spec, EvaluatorSpec)],
        "extractors": [_extractor(spec, resolver) for spec in extractors if isinstance(spec, ExtractorSpec)],
    }


def _evaluator(spec: EvaluatorSpec) -> dict[str, Any]:
    needs = [need for need in spec.inputs if need not in ("samples", "features")]
    return {
        "name": spec.name,
        "summary": spec.summary,
        "scores": dict(spec.scores),
        "needs": needs + [f"output {output}" for output in spec.outputs],
    }


def _extractor(spec: ExtractorSpec, resolver: Resolver) -> dict[str, Any]:
    presets = [preset.name for preset in resolver.data.of(spec.name) if preset.kind == "extractor"]
    facts = {"name": spec.name, "summary": spec.summary, "outputs": list(spec.outputs), "presets": presets}
    return facts | {"takes": spec.modality, "weights": _weights(spec, resolver)}


def _weights(spec: ExtractorSpec, resolver: Resolver) -> str:
    """Say whether an extractor could be used now."""
    if spec.argument is not None:
        return f"of {spec.name}:{spec.argument.upper()}"
    try:
        (part,) = resolver.extractors([spec.name])
        path = find(preset_of(part), part.weights)
    except GenplugError as error:
        return str(error).rpartition("; ")[2]
    return "none needed" if path is None else "here"


def judges_text(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the list as tables."""
    scores = [
        (
            one["name"],
            ", ".join(f"{s} {arrow(way)}" for s, way in one["scores"].items()),
            ", ".join(one["needs"]),
        )
        for one in found["evaluators"]
    ]
    features = [
        (one["name"], ", ".join(one["outputs"]), one["weights"], one["summary"])
        for one in found["extractors"]
    ]
    return "\n\n".join(
        [
            table(scores, ("evaluator", "scores", "needs besides samples")),
            table(features, ("extractor", "outputs", "weights", "what it is")),
            "genplug plugins NAME shows options, presets and an example",
        ]
    )
