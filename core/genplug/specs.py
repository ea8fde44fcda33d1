"""Specs: what a component is and can do, told without importing anything heavy.

A spec names its configuration as a string, `"package.module:Model"`. That pydantic model has
bounds and descriptions for every option and a `build()` that imports the implementation.
Nothing here imports more than the standard library, so that listing stays fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

Modality = Literal["image", "points", "any"]
Better = Literal["lower", "higher"] | float  # a number is a target: closer to it is better


def arrow(better: Better | None) -> str:
    """Return ↓, ↑ or → with the target; nothing where nobody says what is better."""
    if better is None:
        return ""
    return {"lower": "↓", "higher": "↑"}.get(str(better), f"→ {better}")


#: What an evaluator may ask for (`genplug.protocols.EvalInputs` has them).
INPUTS: Mapping[str, str] = MappingProxyType(
    {
        "samples": "the generated samples",
        "features": "features of the samples, once for each extractor",
        "extractors": "features of all extractors at once",
        "held_out": "real samples that no training saw",
        "train": "real samples that the generator was trained on",
        "statistics": "mean and covariance of features of real samples, from a file",
        "images": "the samples are images",
        "generators": "the generators themselves",
    }
)

#: Every capability word, with what it promises. `genplug.protocols` has the methods.
CAPABILITIES: Mapping[str, str] = MappingProxyType(
    {
        "denoiser": "denoise(x, sigma, cond) estimates the clean sample at every noise level",
        "likelihood": "log_prob(x, cond) in nats",
        "latent": "x is a latent code, not pixels",
        "class-conditional": "labels in [0, num_classes)",
        "feature-conditional": "float32 feature vectors",
        "text-conditional": "prompts",
        "unconditional": "a trained branch without condition",
        "null-label": "label -1 stands for no label: a branch that training can fill",
        "feature-trainable": "the same architecture can be made anew, conditioned on feature vectors",
        "guided": "its guidance scale can be changed",
        "trainable": "a torch module with a training loss",
        "batch-coupled": "a sample depends on the rest of its batch",
    }
)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What all components say of themselves.

    `config` is `"module:Model"`; `tiny` holds configuration values that make the component
    small enough for the conformance kit (seconds on a CPU). `preset` is the one that is meant where
    none is named and the registry has no other default.
    """

    kind: ClassVar[str] = ""

    name: str
    summary: str
    config: str
    modality: Modality = "image"
    tiny: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec(Spec):
    """A source of samples. `provides` is the most it can do; `config.provides()` is exact."""

    kind: ClassVar[str] = "generator"

    provides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SamplerSpec(Spec):
    """A way to integrate a denoiser."""

    kind: ClassVar[str] = "sampler"

    modality: Modality = "any"


@dataclass(frozen=True, kw_only=True)
class ExtractorSpec(Spec):
    """A map from samples to features.

    `outputs` names the features that it may return, the default first; which of the others are there
    depends on its configuration. `argument` is the option that a text after a colon sets: with
    `argument="model"`, `--extractor timm:resnet50` is the extractor `timm` with `model = "resnet50"`.
    """

    kind: ClassVar[str] = "extractor"

    outputs: tuple[str, ...] = ("features",)
    argument: str | None = None


@dataclass(frozen=True, kw_only=True)
class DistanceSpec(Spec):
    """A distance between feature rows."""

    kind: ClassVar[str] = "distance"

    modality: Modality = "any"
    differentiable: bool = False
    symmetric: bool = True


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(Spec):
    """A function from generator to generator.

    `needs` lists capabilities, alternatives joined by `|`. `adds` and `removes` say how the
    result's capabilities differ from the given generator's. A configuration may say more for itself
    with methods of these three names (`genplug.matching`). `inputs` are of `dataset`, `labels`,
    `extractor`, `generator`. `control` says that it can also make what its compute gives without its
    method (`genplug.protocols.Objective`).
    """

    kind: ClassVar[str] = "objective"

    stage: Literal["train", "guide", "postprocess"]
    modality: Modality = "any"
    needs: tuple[str, ...] = ()
    adds: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    control: bool = False


@dataclass(frozen=True, kw_only=True)
class EvaluatorSpec(Spec):
    """A judge. `inputs` are of `INPUTS`, alternatives joined by `|`.

    An evaluator that takes `features` is called once for each extractor of the run, and its
    scores are named `SCORE-EXTRACTOR`; one that takes `extractors` is called once with all of them.
    `outputs` are outputs of an extractor that it needs by name, besides the chosen one: it is used
    with extractors that have them. `scores` says for each score what is better; a score may be
    returned as `SCORE-MORE`. `measured` are those of time or memory, which differ each time.
    """

    kind: ClassVar[str] = "evaluator"

    modality: Modality = "any"
    inputs: tuple[str, ...] = ("samples", "held_out")
    outputs: tuple[str, ...] = ()
    scores: Mapping[str, Better] = field(default_factory=dict)
    measured: tuple[str, ...] = ()

    def takes(self, word: str) -> bool:
        """Return whether an input is taken, be it as one of several alternatives."""
        return any(word in need.split("|") for need in self.inputs)


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """A finite set of samples. The `train` split is what generators are trained on.

    With `opens_paths`, a path that a user gives as data set becomes its option `path`.
    """

    kind: ClassVar[str] = "dataset"

    splits: tuple[str, ...] = ("train", "held-out")
    opens_paths: bool = False


@dataclass(frozen=True, kw_only=True)
class Published:
    """A score that somebody published, with where and how it was obtained."""

    score: str
    value: float
    source: str
    settings: str = ""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named configuration of a component, with weights if it has any.

    `name` is `family.tag`; `family` is the component's name. `values` are configuration
    values by their dotted keys. `unset` are keys (alternatives joined by `|`) whose value the
    source does not give: the user must. `recipes` maps an objective's name to the preset that suits this
    generator. `address` is where the weights are published (forms: `genplug.addresses`), `format`,
    `part` and `prefix` what the network is in that file; `sha256` and `bytes` are of that file.
    `reference` is how the network is asked for, where that is not by the preset's name.
    """

    name: str
    kind: Literal["generator", "objective", "extractor"] = "generator"
    summary: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    recipes: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None
    format: Literal["safetensors", "nvlabs-pickle", "torch"] = "safetensors"
    part: str | None = None
    prefix: str = ""
    sha256: str | None = None
    bytes: int | None = None
    licence: str | None = None
    dataset: str | None = None
    published: tuple[Published, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    origin: str = ""

    @property
    def asked(self) -> str:
        """What a user types for it."""
        return self.reference or self.name

    @property
    def family(self) -> str:
        """The component that this is a preset of."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class BadPreset(Preset):
    """An entry that cannot be used, and why: listed as broken, never offered."""

    problem: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An experiment that one command repeats: runs under several seeds, tables and claims.

    `path` is its TOML file (docs/recipes.md has the format). `minutes` is about how long all of it
    takes on two cores. `problem` says why it cannot be used; empty if it can.
    """

    name: str
    summary: str
    path: str
    minutes: float = 0.0
    problem: str = ""


def unmet(needs: tuple[str, ...], provides: frozenset[str]) -> tuple[str, ...]:
    """Return the needs (alternatives joined by `|`) that none of the capabilities meets."""
    return tuple(need for need in needs if not provides & set(need.split("|")))
