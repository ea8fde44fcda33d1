"""Components that each break a promise, for the tests of the conformance kit."""

from genplug import (
    DatasetSpec,
    DistanceSpec,
    EvaluatorSpec,
    ExtractorSpec,
    GeneratorSpec,
    ObjectiveSpec,
    SamplerSpec,
    hookimpl,
)

_CONFIG = "genplug_broken.config:"


@hookimpl
def register_generators():
    denoiser = ("denoiser", "trainable", "class-conditional")
    points = {"modality": "points", "provides": denoiser}
    optional = {**points, "provides": (*denoiser, "null-label", "feature-trainable")}
    return [
        GeneratorSpec(name="drifting", summary="depends on its batch", config=_CONFIG + "Drifting"),
        GeneratorSpec(
            name="boasting",
            summary="claims a likelihood that it has not",
            config=_CONFIG + "Boasting",
            provides=("likelihood",),
        ),
        GeneratorSpec(name="halving", summary="denoises to one half", config=_CONFIG + "Halving", **points),
        GeneratorSpec(name="trusting", summary="believes the noise", config=_CONFIG + "Trusting", **points),
        GeneratorSpec(name="sidestepping", summary="no module", config=_CONFIG + "Sidestepping", **points),
        GeneratorSpec(name="insisting", summary="-1 is class 0", config=_CONFIG + "Insisting", **optional),
        GeneratorSpec(name="modest", summary="fills nothing", config=_CONFIG + "Modest", **optional),
        GeneratorSpec(name="unsown", summary="one network always", config=_CONFIG + "Unsown", **optional),
        GeneratorSpec(name="deaf", summary="nothing is something", config=_CONFIG + "Deaf", **optional),
        GeneratorSpec(
            name="stubborn",
            summary="one scale always",
            config=_CONFIG + "Stubborn",
            modality="points",
            provides=(*denoiser, "guided"),
        ),
        GeneratorSpec(
            name="generous",
            summary="probabilities above one",
            config=_CONFIG + "Generous",
            provides=("likelihood", "trainable", "class-conditional"),
        ),
    ]


@hookimpl
def register_samplers():
    return [SamplerSpec(name="lazy", summary="stops half way", config="genplug_broken.heavy:Lazy")]


@hookimpl
def register_extractors():
    return [
        ExtractorSpec(name="centring", summary="subtracts the batch's mean", config=_CONFIG + "Centring"),
        ExtractorSpec(name="restless", summary="a new fingerprint each time", config=_CONFIG + "Restless"),
    ]


@hookimpl
def register_distances():
    return [
        DistanceSpec(name="shifted", summary="never zero", config=_CONFIG + "Shifted"),
        DistanceSpec(name="unsorted", summary="neighbours in reverse", config=_CONFIG + "Unsorted"),
    ]


@hookimpl
def register_objectives():
    need = {"stage": "train", "needs": ("denoiser", "trainable"), "modality": "points"}
    return [
        ObjectiveSpec(name="vandal", summary="changes the base", config=_CONFIG + "Vandal", **need),
        ObjectiveSpec(name="forgetful", summary="saves nothing", config=_CONFIG + "Forgetful", **need),
        ObjectiveSpec(
            name="promising", summary="no control", config=_CONFIG + "Promising", control=True, **need
        ),
        ObjectiveSpec(
            name="reversing", summary="no control kept", config=_CONFIG + "Reversing", control=True, **need
        ),
        ObjectiveSpec(name="mistaken", summary="adds nothing", config=_CONFIG + "Mistaken", **need),
    ]


@hookimpl
def register_evaluators():
    scores = {"first": "lower"}
    return [
        EvaluatorSpec(name="ordered", summary="the first pixel", config=_CONFIG + "Ordered", scores=scores),
        EvaluatorSpec(name="unnamed", summary="another score", config=_CONFIG + "Unnamed", scores=scores),
    ]


@hookimpl
def register_datasets():
    return [DatasetSpec(name="leaking", summary="train is held out", config=_CONFIG + "Leaking")]


EXPECTED = {  # kind, name: words of promises that must come out as broken
    ("generator", "drifting"): ["same seed"],
    ("generator", "boasting"): ["What it claims it has"],
    ("generator", "halving"): ["lowest noise level"],
    ("generator", "trusting"): ["highest noise level"],
    ("generator", "sidestepping"): ["go through it"],
    ("generator", "generous"): ["sum to one"],
    ("generator", "insisting"): ["label -1"],
    ("generator", "modest"): ["with_unconditional says"],
    ("generator", "unsown"): ["for_features gives"],
    ("generator", "deaf"): ["no condition as the zero vector"],
    ("generator", "stubborn"): ["Its scale can be changed"],
    ("sampler", "lazy"): ["without importing torch", "mean and standard deviation", "noise levels fall"],
    ("extractor", "centring"): ["alone and in a batch"],
    ("extractor", "restless"): ["fingerprint"],
    ("distance", "shifted"): ["to itself is zero"],
    ("distance", "unsorted"): ["in order"],
    ("objective", "vandal"): ["keeps its weights"],
    ("objective", "forgetful"): ["Saved and restored"],
    ("objective", "promising"): ["It makes a control"],
    ("objective", "reversing"): ["It makes a control"],
    ("objective", "mistaken"): ["provides what the spec says"],
    ("evaluator", "ordered"): ["order of the samples"],
    ("evaluator", "unnamed"): ["scores of its spec"],
    ("dataset", "leaking"): ["held-out samples", "fingerprint"],
}
