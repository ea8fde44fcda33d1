"""Matching: whether the parts of a run fit each other and its data, before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from genplug.config import GeneratorConfig
from genplug.errors import CapabilityError, DataError
from genplug.extractors import spec_of
from genplug.parts import Part, Reference, Resolved
from genplug.registry import Catalog
from genplug.specs import EvaluatorSpec, ExtractorSpec, GeneratorSpec, unmet

if TYPE_CHECKING:
    from genplug.runtime import Run


def provided(part: Part) -> frozenset[str]:
    """Return what a configured generator provides."""
    spec = part.entry.spec
    assert isinstance(spec, GeneratorSpec)
    has = frozenset(part.config.provides() if isinstance(part.config, GeneratorConfig) else spec.provides)
    if extra := has - set(spec.provides):
        raise CapabilityError(
            f"generator {part.name!r} of {part.entry.package} is broken: its configuration provides "
            f"{', '.join(sorted(map(str, extra)))}, its spec does not"
        )
    return has


def said(part: Part, word: Literal["needs", "adds", "removes"]) -> tuple[str, ...]:
    """Return what a configured objective needs, adds or removes: its spec's words and its own."""
    more: Callable[[], tuple[str, ...]] | None = getattr(part.config, word, None)
    return (*getattr(part.entry.spec, word), *(more() if more is not None else ()))


def match(resolved: Resolved) -> None:
    """Check that the generator, and what each objective makes of it, meets the next one's needs."""
    for chain in resolved.variants.values():
        _match_chain(resolved, chain)
    if resolved.run.control:
        _check_control(resolved)
    match_references(resolved.generator, resolved.references)
    for part in resolved.evaluators:
        if isinstance(part.entry.spec, EvaluatorSpec) and resolved.extractors:
            suited(resolved.catalog, part.entry.spec, [one.reference for one in resolved.extractors])
    for part in (*resolved.objectives, *resolved.evaluators, *resolved.all_extractors):
        check_modality(
            part, resolved.generator.entry.spec.modality, f"generator {resolved.generator.name!r} makes"
        )


def _match_chain(resolved: Resolved, chain: Sequence[Part]) -> None:
    """Check each objective against what is left of the generator's capabilities when its turn comes."""
    generator = resolved.generator
    asked = generator.preset.name if generator.preset else generator.name
    has, source = provided(generator), f"generator {asked!r}"
    takers: dict[str, str] = {}  # lost capability -> the objective that takes it away
    for part in chain:
        needs = said(part, "needs")
        if missing := unmet(needs, has):
            lost = {word: takers[word] for need in missing for word in need.split("|") if word in takers}
            raise CapabilityError(_mismatch(part.name, needs, has, source, resolved.catalog, lost))
        removed, added = set(said(part, "removes")) & has, set(said(part, "adds"))
        takers |= dict.fromkeys(removed - added, part.name)
        has, source = has - removed | added, f"the result of {part.name!r}"


def _check_control(resolved: Resolved) -> None:
    """Refuse to judge a control where the last objective makes none."""
    if not resolved.objectives:
        raise CapabilityError(
            "run.control judges what the last objective's compute gives without it: name one"
        )
    last = resolved.objectives[-1].entry.spec
    if not getattr(last, "control", False):
        specs = [entry.spec for entry in resolved.catalog.entries["objective"].values()]
        able = sorted(spec.name for spec in specs if getattr(spec, "control", False))
        raise CapabilityError(
            f"objective {last.name!r} makes no control; those that do: {', '.join(able) or 'none'} "
            "(run without run.control)"
        )


def match_references(generator: Part, references: Iterable[Reference]) -> None:
    """Check that second generators can do what is needed, with x of the same kind."""
    for reference in references:
        _check_reference(reference, generator)


def check_modality(part: Part, wanted: str, source: str) -> None:
    """Refuse a component that takes another modality than there is."""
    spec = part.entry.spec
    if "any" not in (spec.modality, wanted) and spec.modality != wanted:
        raise CapabilityError(f"{spec.kind} {part.name!r} takes {spec.modality}; {source} {wanted}")


def sees_features(spec: EvaluatorSpec) -> bool:
    """Return whether an evaluator looks at features."""
    return spec.takes("features") or spec.takes("extractors")


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


def _mismatch(
    name: str,
    needs: tuple[str, ...],
    has: frozenset[str],
    source: str,
    installed: Catalog,
    lost: Mapping[str, str],
) -> str:
    """Say what is missing, and which objective took it or else which generators have it."""
    fitting = [
        entry.spec.name
        for entry in installed.entries["generator"].values()
        if isinstance(entry.spec, GeneratorSpec) and not unmet(needs, frozenset(entry.spec.provides))
    ]
    there = ", ".join(sorted(has)) or "nothing"
    text = f"objective {name!r} needs {', '.join(needs)}; {source} provides {there}"
    if lost:
        gone = " and ".join(f"{taker!r} takes {word} away" for word, taker in lost.items())
        them = "it" if len(set(lost.values())) == 1 else "them"
        return f"{text}: {gone}, so that {name!r} must come before {them}"
    return f"{text}. Generators that fit: {', '.join(sorted(fitting)) or 'none'}."


def _check_reference(reference: Reference, generator: Part) -> None:
    """Check a second generator: capabilities and x shape."""
    where = f"{reference.owner.entry.spec.kind} {reference.owner.name!r}: {reference.key} {reference.text!r}"
    if missing := unmet(reference.needs, provided(reference.part)):
        raise CapabilityError(f"{where} lacks {', '.join(missing)}")
    configs = (generator.config, reference.part.config)
    own, other = (config.x_shape() if isinstance(config, GeneratorConfig) else None for config in configs)
    if own is not None and other is not None and own != other:
        raise CapabilityError(f"{where} has x of shape {other}, generator {generator.name!r} of {own}")
    if "latent" in provided(reference.part) ^ provided(generator):
        raise CapabilityError(f"{where} and generator {generator.name!r}: one has latents, the other has not")


def check_data(worker: Run, resolved: Resolved) -> None:
    """Open the data and see that the generator fits it, before anything is made or written."""
    generator = resolved.generator
    makes = generator.entry.spec.modality
    for split in ("train", "held-out"):
        data = worker.dataset(split)
        holds = "points" if len(data.shape) == 1 else "image"
        if makes not in ("any", holds):
            raise DataError(f"generator {generator.name!r} makes {makes}; {data.name} holds {holds}")
        config = generator.config
        shape = config.sample_shape() if isinstance(config, GeneratorConfig) else None
        if shape is not None and shape != data.shape:
            raise DataError(
                f"generator {generator.name!r} makes samples of shape {shape}; {data.name} holds {data.shape}"
            )


def check_splits(worker: Run, resolved: Resolved) -> None:
    """Refuse held-out samples that are the training ones, where an evaluator compares them."""
    if any(takes(part, "train") and takes(part, "held_out") for part in resolved.evaluators):
        train, held_out = (worker.dataset(split) for split in ("train", "held-out"))
        if train.fingerprint == held_out.fingerprint:
            raise DataError(
                f"{train.name} and {held_out.name}: training and held-out samples are the same; "
                "name real samples that no training saw"
            )


def takes(part: Part, word: str) -> bool:
    """Return whether an evaluator takes an input."""
    spec = part.entry.spec
    return isinstance(spec, EvaluatorSpec) and spec.takes(word)
