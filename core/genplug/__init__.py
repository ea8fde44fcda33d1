"""genplug: run, improve and judge image generators.

    import genplug

    generator = genplug.load("edm2")                       # a ready generator
    result = genplug.run("edm2", ["ddo"], out="runs/x")    # improve it, prove it
    genplug.sample("runs/x:improved", 64, out="x.npz")     # draw from the result
    scores = genplug.evaluate("digits:held-out", "runs/x:improved")

A plugin needs `genplug.hookimpl` and the specs. Everything is imported on first use, so that
`import genplug` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "hookimpl": "genplug.hookspecs",
    "presets_from": "genplug.presets",
    "recipes_from": "genplug.recipes",
    "catalog": "genplug.registry",
    "GeneratorSpec": "genplug.specs",
    "SamplerSpec": "genplug.specs",
    "ExtractorSpec": "genplug.specs",
    "DistanceSpec": "genplug.specs",
    "ObjectiveSpec": "genplug.specs",
    "EvaluatorSpec": "genplug.specs",
    "DatasetSpec": "genplug.specs",
    "Preset": "genplug.specs",
    "GenplugError": "genplug.errors",
    "load": "genplug.loading",
    "run": "genplug.pipeline",
    "sample": "genplug.drawing",
    "evaluate": "genplug.evaluation",
    "meter": "genplug.metering",
    "resolve": "genplug.resolving",
    "plan": "genplug.planning",
    "fetch": "genplug.fetching",
    "Condition": "genplug.condition",
    "NoiseSource": "genplug.random",
    "NoiseSpec": "genplug.protocols",
    "DenoiserGenerator": "genplug.denoiser",
    "Score": "genplug.protocols",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from genplug.condition import Condition as Condition
    from genplug.denoiser import DenoiserGenerator as DenoiserGenerator
    from genplug.drawing import sample as sample
    from genplug.errors import GenplugError as GenplugError
    from genplug.evaluation import evaluate as evaluate
    from genplug.fetching import fetch as fetch
    from genplug.hookspecs import hookimpl as hookimpl
    from genplug.loading import load as load
    from genplug.metering import meter as meter
    from genplug.pipeline import run as run
    from genplug.planning import plan as plan
    from genplug.presets import presets_from as presets_from
    from genplug.protocols import NoiseSpec as NoiseSpec
    from genplug.protocols import Score as Score
    from genplug.random import NoiseSource as NoiseSource
    from genplug.recipes import recipes_from as recipes_from
    from genplug.registry import catalog as catalog
    from genplug.resolving import resolve as resolve
    from genplug.specs import DatasetSpec as DatasetSpec
    from genplug.specs import DistanceSpec as DistanceSpec
    from genplug.specs import EvaluatorSpec as EvaluatorSpec
    from genplug.specs import ExtractorSpec as ExtractorSpec
    from genplug.specs import GeneratorSpec as GeneratorSpec
    from genplug.specs import ObjectiveSpec as ObjectiveSpec
    from genplug.specs import Preset as Preset
    from genplug.specs import SamplerSpec as SamplerSpec


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genplug' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
