"""The conformance kit: what the contract promises, as tests that any plugin can run on itself.

A plugin's whole test file is one subclass per component, with its name:

    from genplug.testing import GeneratorSuite

    class TestToy(GeneratorSuite):
        name = "toy"

Every test of a suite is one promise; its docstring says which. The component is built from its
defaults and the `tiny` values of its spec; `options` go on top of both. `genplug check NAME`
runs the same suites on anything that is installed.
"""

from __future__ import annotations

from collections.abc import Mapping

from genplug.testing.datasets import DatasetSuite
from genplug.testing.distances import DistanceSuite
from genplug.testing.evaluators import EvaluatorSuite
from genplug.testing.extractors import ExtractorSuite
from genplug.testing.generators import GeneratorSuite
from genplug.testing.objectives import ObjectiveSuite
from genplug.testing.samplers import SamplerSuite
from genplug.testing.suite import ComponentSuite

#: The suite of every kind of component.
SUITES: Mapping[str, type[ComponentSuite]] = {
    suite.kind: suite
    for suite in (
        GeneratorSuite,
        SamplerSuite,
        ExtractorSuite,
        DistanceSuite,
        ObjectiveSuite,
        EvaluatorSuite,
        DatasetSuite,
    )
}

__all__ = [
    "SUITES",
    "ComponentSuite",
    "DatasetSuite",
    "DistanceSuite",
    "EvaluatorSuite",
    "ExtractorSuite",
    "GeneratorSuite",
    "ObjectiveSuite",
    "SamplerSuite",
]
