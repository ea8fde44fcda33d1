"""Every built-in component keeps its promises, tested by the kit that third parties use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from genplug.registry import catalog
from genplug.samplesets import ArraySet
from genplug.testing import (
    SUITES,
    ComponentSuite,
    DatasetSuite,
    DistanceSuite,
    EvaluatorSuite,
    ExtractorSuite,
    GeneratorSuite,
    ObjectiveSuite,
    SamplerSuite,
)
from genplug.testing.workplace import as_reference, resolve_part
from genplug.writers import export


class TestEdm2(GeneratorSuite):
    name = "edm2"


class TestEdm2Unconditional(GeneratorSuite):
    name = "edm2"
    options = {"num_classes": 0}


class TestEdm2WithItsWeights(GeneratorSuite):
    name = "edm2"
    options = {"preset": "edm2.digits"}


class TestHeun(SamplerSuite):
    name = "heun"


class TestHeunWithChurn(SamplerSuite):
    name = "heun"
    options = {"churn": 10.0}


class TestEuler(SamplerSuite):
    name = "euler"


class TestPixels(ExtractorSuite):
    name = "pixels"


class TestRandomInception(ExtractorSuite):
    name = "random-inception"


class TestDigitsClassifier(ExtractorSuite):
    name = "digits-classifier"


class TestByol(ExtractorSuite):
    name = "byol"


class TestClip(ExtractorSuite):
    name = "clip"


class TestConvnext(ExtractorSuite):
    name = "convnext"


class TestData2vec(ExtractorSuite):
    name = "data2vec"


class TestDinov2(ExtractorSuite):
    name = "dinov2"


class TestEfficientnetLite0(ExtractorSuite):
    name = "efficientnet-lite0"


class TestInceptionFid(ExtractorSuite):
    name = "inception-fid"


class TestMae(ExtractorSuite):
    name = "mae"


class TestMocoV3(ExtractorSuite):
    name = "moco-v3"


class TestResnet50(ExtractorSuite):
    name = "resnet50"


class TestSwav(ExtractorSuite):
    name = "swav"


class TestTimm(ExtractorSuite):
    name = "timm"


class TestVae(ExtractorSuite):
    name = "vae"


class TestVitS(ExtractorSuite):
    name = "vit-s"


class TestEuclidean(DistanceSuite):
    name = "euclidean"


class TestCosine(DistanceSuite):
    name = "cosine"


class TestSquared(DistanceSuite):
    name = "squared"


class TestPerceptual(DistanceSuite):
    name = "perceptual"


class TestPretrain(ObjectiveSuite):
    name = "pretrain"


class TestDdo(ObjectiveSuite):
    name = "ddo"


class TestFrechet(EvaluatorSuite):
    name = "frechet"


class TestPrdc(EvaluatorSuite):
    name = "prdc"


class TestIrs(EvaluatorSuite):
    name = "irs"


class TestFdInfinity(EvaluatorSuite):
    name = "fd-infinity"


class TestSpatialFrechet(EvaluatorSuite):
    name = "spatial-frechet"
    extractor = "inception-fid"


class TestKernel(EvaluatorSuite):
    name = "kernel"


class TestSlicedWasserstein(EvaluatorSuite):
    name = "sliced-wasserstein"


class TestRealism(EvaluatorSuite):
    name = "realism"


class TestAuthenticity(EvaluatorSuite):
    name = "authenticity"


class TestCt(EvaluatorSuite):
    name = "ct"


class TestInceptionScore(EvaluatorSuite):
    name = "inception-score"
    extractor = "digits-classifier"


class TestVendi(EvaluatorSuite):
    name = "vendi"


class TestCost(EvaluatorSuite):
    name = "cost"


class TestMeasurementGap(EvaluatorSuite):
    name = "measurement-gap"


class TestRetrievalAgreement(EvaluatorSuite):
    name = "retrieval-agreement"
    extractors = ("pixels", "digits-classifier")


class TestDigits(DatasetSuite):
    name = "digits"


class TestFiles(DatasetSuite):
    name = "files"

    @pytest.fixture
    def given(self, tmp_path: Path) -> Mapping[str, Any]:
        images = torch.arange(40 * 48).reshape(40, 3, 4, 4).remainder(251).to(torch.uint8)
        export(ArraySet(images, torch.arange(40) % 2), tmp_path / "images")
        return {"path": str(tmp_path / "images")}


def test_no_built_in_component_is_left_out() -> None:
    tested = {
        (suite.kind, suite.name)
        for suite in globals().values()
        if isinstance(suite, type) and issubclass(suite, ComponentSuite) and suite.name
    }
    installed = {(e.spec.kind, e.spec.name) for e in catalog() if e.package.name == "genplug"}
    assert installed == tested
    assert set(SUITES) == {kind for kind, _ in tested}


class TestCfg(ObjectiveSuite):
    name = "cfg"
    generator = "edm2"
    options = {"guide": None}  # its own label-dropped copy


class TestCfgOfATrainedBranch(ObjectiveSuite):
    name = "cfg"
    generator = "toy"
    generator_options = {"num_classes": 2, "unconditional": True}
    options = {"guide": None}


class TestCfgAwayFromAnother(ObjectiveSuite):
    name = "cfg"
    generator = "edm2"

    @pytest.fixture
    def given(self, tmp_path: Path) -> Mapping[str, Any]:
        other = resolve_part("generator", "edm2", {"num_classes": 0})
        return {"guide": as_reference(other, tmp_path / "second")}


class TestAutoguidance(ObjectiveSuite):
    name = "autoguidance"


class TestAutoguidanceByALessTrainedModel(ObjectiveSuite):
    name = "autoguidance"
    generator = "edm2"
    options = {"guide": None, "guide_options": {"model_channels": 8}}


class TestToy(GeneratorSuite):
    name = "toy"


class TestToyOfTwoClasses(GeneratorSuite):
    name = "toy"
    options = {"num_classes": 2, "unconditional": True}


class TestToyFlow(GeneratorSuite):
    name = "toy-flow"


class TestToyExact(GeneratorSuite):
    name = "toy-exact"


class TestToyExactFractal(GeneratorSuite):
    name = "toy-exact"
    options = {"data": {"name": "fractal", "classes": "A"}}


class TestGaussians1d(DatasetSuite):
    name = "gaussians-1d"


class TestFractal(DatasetSuite):
    name = "fractal"


class TestLargerDigits(DatasetSuite):
    name = "digits"
    options = {"resolution": 16}
