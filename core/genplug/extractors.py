"""Feature extractors by the names that users type, with their weights.

    NAME[.TAG][:ARGUMENT][@OUTPUT]      dinov2   dinov2.b   timm:resnet50.a1_in1k   inception-fid@logits

`.TAG` picks a preset, `:ARGUMENT` sets the option that `ExtractorSpec.argument` names, `@OUTPUT` picks
another output than the first as the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genplug.errors import CapabilityError, nearest
from genplug.parts import Part
from genplug.registry import Catalog
from genplug.specs import ExtractorSpec, Preset
from genplug.weights import locate

if TYPE_CHECKING:
    from torch import Tensor

    from genplug.protocols import Extractor
    from genplug.runtime import Run


@dataclass(frozen=True)
class Reference:
    """A reference, taken apart; parts that are not there are empty."""

    family: str
    tag: str = ""
    argument: str = ""
    output: str = ""

    @property
    def head(self) -> str:
        """The reference without its output: what is built."""
        tag, argument = (f".{self.tag}" * bool(self.tag), f":{self.argument}" * bool(self.argument))
        return f"{self.family}{tag}{argument}"

    @property
    def preset(self) -> str:
        """The preset that the tag picks; empty without one."""
        return f"{self.family}.{self.tag}" if self.tag else ""


def parse(text: str) -> Reference:
    """Take a reference apart."""
    head, _, output = text.partition("@")
    name, _, argument = head.partition(":")
    family, _, tag = name.partition(".")
    return Reference(family, tag, argument, output)


def spec_of(catalog: Catalog, reference: str) -> ExtractorSpec:
    """Return the spec of an extractor; an output that it does not have is answered with those it has."""
    parsed = parse(reference)
    if reference.endswith(("@", ":")):
        raise CapabilityError(f"extractor {reference!r}: name an output after '@' and an argument after ':'")
    spec = catalog.get("extractor", parsed.family).spec
    assert isinstance(spec, ExtractorSpec)
    if parsed.output and parsed.output not in spec.outputs:
        hint = nearest(parsed.output, spec.outputs) or f" (outputs: {', '.join(spec.outputs)})"
        raise CapabilityError(f"extractor {parsed.family!r} has no output {parsed.output!r}{hint}")
    if parsed.argument and spec.argument is None:
        raise CapabilityError(f"extractor {parsed.family!r} takes no argument (got {parsed.argument!r})")
    return spec


def preset_of(part: Part) -> Preset | None:
    """Return the preset whose weights an extractor takes: its own configuration may know it best."""
    own = getattr(part.config, "preset", None)
    if part.preset is not None or not callable(own):
        return part.preset
    preset: Preset | None = own()
    return preset


def build_extractor(run: Run, part: Part) -> Extractor:
    """Build an extractor and load its weights, which must be there unless they are `none`."""
    path = locate(preset_of(part), part.weights)
    extractor: Extractor = part.config.build(run)
    if not hasattr(extractor, "load_state_dict"):
        return extractor
    if path is None:
        run.log.warn(f"extractor {part.reference!r} has no weights: its features are those of random ones")
    else:
        extractor.load_state_dict(read_state(path, extractor))
    return extractor


def read_state(path: Path, extractor: Any) -> Mapping[str, Tensor]:
    """Return the weights in a file of any known format by the extractor's own names."""
    from genplug.foreign import read_foreign

    return adapted(read_foreign(path).tensors, extractor)


def adapted(tensors: dict[str, Tensor], extractor: Any) -> dict[str, Tensor]:
    """Return tensors by the extractor's own names; those that have them already are left alone."""
    adapt = getattr(extractor, "adapt", None)
    if adapt is None or tensors.keys() == extractor.state_dict().keys():
        return tensors
    found: dict[str, Tensor] = adapt(tensors)
    return found


def score_name(run: Run, score: str, reference: str) -> str:
    """Return under which name a score on an extractor's features is known: `fid`, or `SCORE-EXTRACTOR`.

    The extractor's `score_names` are those of its default features; `SCORE-MORE` goes by `SCORE`.
    """
    if "@" not in reference:
        known: Mapping[str, str] = getattr(run.extractor(reference), "score_names", {})
        if score in known:
            return known[score]
    return f"{score}-{reference}"
