"""Every built-in component keeps its promises, tested by the kit that third parties use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import genplug
from genplug.config import GeneratorConfig
from genplug.parts import Part
from genplug.protocols import EvalInputs
from genplug.random import NoiseSource
from genplug.registry import Entry, Package, catalog
from genplug.runtime import Run
from genplug.samplesets import ArraySet
from genplug.specs import EvaluatorSpec, GeneratorSpec
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
from genplug.testing.workplace import BATCH, as_reference, fresh, make_run, resolve_part
from genplug.writers import export, save_npz
from genplug_diadm.bank import Bank
from genplug_diadm.config import DrawOptions
from genplug_diadm.draws import FeatureDraws


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
    name = "cfg"  # by its own label-dropped copy
    generator = "edm2"


class TestCfgOfATrainedBranch(ObjectiveSuite):
    name = "cfg"
    generator = "toy"
    generator_options = {"num_classes": 2, "unconditional": True}


class TestCfgAwayFromAnother(ObjectiveSuite):
    name = "cfg"
    generator = "toy"
    generator_options = {"num_classes": 2}

    @pytest.fixture
    def given(self, tmp_path: Path) -> Mapping[str, Any]:
        other = resolve_part("generator", "toy", {"num_classes": 0})
        return {"guide": as_reference(other, tmp_path / "second")}


class TestAutoguidance(ObjectiveSuite):
    name = "autoguidance"


class TestAutoguidanceByALessTrainedModel(ObjectiveSuite):
    name = "autoguidance"
    generator = "edm2"
    options = {"guide_options": {"model_channels": 8}}


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


class LineSuite(EvaluatorSuite):
    """Evaluators that look at generators, given two classes on a line and the exact denoiser of them."""

    line = {"separation": 0.3, "train": 80, "held_out": 96}
    exact = {"data": {"name": "gaussians-1d", "separation": 0.3}, "sampler": {"name": "heun", "steps": 4}}

    def _run(self, spec: EvaluatorSpec, directory: Path, batch: int = BATCH) -> Run:
        data, generator = {"name": "gaussians-1d", **self.line}, {"name": "toy-exact", **self.exact}
        resolved = genplug.resolve(config={"dataset": data, "generator": generator})
        return dataclasses.replace(make_run(directory, batch=batch), resolved=resolved)

    def _inputs(self, spec: EvaluatorSpec, images: torch.Tensor) -> EvalInputs:
        data = resolve_part("dataset", "gaussians-1d", self.line).config.build(None)
        generator = fresh(resolve_part("generator", "toy-exact", self.exact))
        train, held_out = data.split("train"), data.split("held-out")
        samples = ArraySet(train.read(range(len(images))), train.labels[: len(images)], "samples")
        return EvalInputs(samples, held_out, train, generator=generator, base=generator)


class TestTrajectories(LineSuite):
    name = "trajectories"


class TestDisplacement(LineSuite):
    name = "displacement"


class TestLikelihoodRatio(EvaluatorSuite):
    name = "likelihood-ratio"

    def _inputs(self, spec: EvaluatorSpec, images: torch.Tensor) -> EvalInputs:
        generator = fresh(resolve_part("generator", "toy", {"num_classes": 0}))
        other = fresh(resolve_part("generator", "toy", {"num_classes": 0}), seed=1)
        points = images.float().flatten(1)[:, :2] / 255
        samples = ArraySet(points, name="samples")
        return EvalInputs(samples, samples, samples, generator=generator, base=other)


class TestOffManifold(EvaluatorSuite):
    name = "off-manifold"


class TestOffManifoldFeatures(EvaluatorSuite):
    name = "off-manifold-features"


class TestWasserstein(EvaluatorSuite):
    name = "wasserstein"


class TestPointsPlot(EvaluatorSuite):
    name = "points-plot"


class TestFeatureMap(EvaluatorSuite):
    name = "feature-map"


class TestFlowOfPoints(ObjectiveSuite):
    name = "flow"
    generator = "toy"
    generator_options = {"num_classes": 2}


class TestFlowOfImages(ObjectiveSuite):
    name = "flow"
    generator = "edm2"
    options = {"solver": "dopri5", "rtol": 1e-3, "atol": 1e-3}


def _points_file(folder: Path) -> Mapping[str, Any]:
    """Write points with labels as files that a generator hands out; return its options."""
    seeds_N = torch.arange(64)
    points = NoiseSource(seeds_N).normal((64, 2), "points")
    save_npz(folder / "points.npz", points, seeds_N % 2)
    return {"path": str(folder / "points.npz"), "labels": True}


class TestFlowOfABlackBox(ObjectiveSuite):
    name = "flow"
    options = {"pool": 8}

    @pytest.fixture
    def base_part(self, tmp_path: Path) -> Part:
        return resolve_part("generator", "folder", _points_file(tmp_path))


class TestFolder(GeneratorSuite):
    name = "folder"

    @pytest.fixture
    def given(self, tmp_path: Path) -> Mapping[str, Any]:
        return _points_file(tmp_path)


class TestFolderWithoutLabels(GeneratorSuite):
    name = "folder"

    @pytest.fixture
    def given(self, tmp_path: Path) -> Mapping[str, Any]:
        return {**_points_file(tmp_path), "labels": False}


class TestClassifierGuidance(ObjectiveSuite):
    name = "classifier-guidance"
    generator = "edm2"
    options = {"network": {"kind": "mlp", "width": 16}}


class TestClassifierGuidanceWithoutLabels(ObjectiveSuite):
    name = "classifier-guidance"
    options = {"on": "unconditional"}
    generator = "toy"
    generator_options = {"num_classes": 2, "unconditional": True}


class TestDiscriminatorGuidance(ObjectiveSuite):
    name = "discriminator-guidance"
    generator = "toy"


class TestDiscriminatorGuidanceAsPublished(ObjectiveSuite):
    name = "discriminator-guidance"
    options = {"published": True, "levels": "vp", "steps": 6}
    generator = "toy"
    generator_options = {"num_classes": 2}


class TestRealismGuidance(ObjectiveSuite):
    name = "realism-guidance"
    generator = "edm2"


class TestRealismJudges(EvaluatorSuite):
    name = "realism-judges"


class TestEdm2Trained(GeneratorSuite):
    name = "edm2"
    options = {"unconditional": True}


class TestDdoWithoutSomeLabels(ObjectiveSuite):
    name = "ddo"
    generator = "edm2"
    options = {"uncond_ratio": 0.5, "alpha": 2.0}


class TestCca(ObjectiveSuite):
    name = "cca"
    generator = "edm2"


class TestCcaOfAllLabels(ObjectiveSuite):
    name = "cca"
    generator = "fake-tokens"
    options = {"uncond_ratio": 0.0}


class TestDiadm(ObjectiveSuite):
    name = "diadm"
    generator = "edm2"


class TestDiadmInterpolated(ObjectiveSuite):
    name = "diadm"
    generator = "edm2"
    options = {"draw": "interpolated", "components": 3}


class _WithFeatures(GeneratorConfig):
    """A generator as `diadm` leaves it, but untrained: no installed one is conditioned on features."""

    def provides(self) -> frozenset[str]:
        return frozenset({"denoiser", "trainable", "feature-conditional", "null-label", "feature-trainable"})

    def build(self, run: Run) -> Any:
        features_ND = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
        made = resolve_part("generator", "edm2", {}).config.build(run).for_features(3, run.seed)
        return made.replace(conditioning=FeatureDraws(Bank(features_ND, "pixels"), DrawOptions()))


class TestFeatureDraw(ObjectiveSuite):
    name = "feature-draw"
    options = {"draw": "kernel"}

    @pytest.fixture
    def base_part(self) -> Part:
        spec = GeneratorSpec(name="with-features", summary="", config="", provides=())
        return Part(Entry(spec, Package("genplug", "")), _WithFeatures())


class TestMemorisation(EvaluatorSuite):
    name = "memorisation"


class TestEnergy(EvaluatorSuite):
    name = "energy"


class TestAdm(GeneratorSuite):
    name = "adm"


class TestAdmUnconditional(GeneratorSuite):
    name = "adm"
    options = {"num_classes": 0, "learn_sigma": False, "fractional": True}


class TestDdpm(SamplerSuite):
    name = "ddpm"


class TestDdpmWithLargeVariance(SamplerSuite):
    name = "ddpm"
    options = {"variance": "fixed-large"}


class TestDdim(SamplerSuite):
    name = "ddim"


class TestStochasticDdim(SamplerSuite):
    name = "ddim"
    options = {"eta": 0.5}


class TestEdm2WithAGuide(GeneratorSuite):
    name = "edm2"

    @pytest.fixture
    def given(self, tmp_path: Path) -> Mapping[str, Any]:
        guide = resolve_part("generator", "edm2", {"preset": "edm2.digits", "weights": "none"})
        return {
            "preset": "edm2.digits",
            "guide": as_reference(guide, tmp_path / "guide"),
            "guidance": 2.0,
        }
