"""The third-party fakes keep the contract too: points, tokens, latents, black boxes, every stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from genplug.samplesets import ArraySet
from genplug.testing import DatasetSuite, EvaluatorSuite, ExtractorSuite, GeneratorSuite, ObjectiveSuite
from genplug.writers import export


class TestPoints(GeneratorSuite):
    name = "fake-points"


class TestOptional(GeneratorSuite):
    name = "fake-optional"


class TestTokens(GeneratorSuite):
    name = "fake-tokens"


class TestLatent(GeneratorSuite):
    name = "fake-latent"


class TestText(GeneratorSuite):
    name = "fake-text"


class TestFolder(GeneratorSuite):
    name = "fake-folder"

    @pytest.fixture
    def given(self, tmp_path: Path) -> Mapping[str, Any]:
        images = torch.arange(24, dtype=torch.uint8).reshape(24, 1, 1, 1).expand(24, 1, 4, 4)
        export(ArraySet(images.clone()), tmp_path / "in")
        return {"path": str(tmp_path / "in")}


class TestShift(ObjectiveSuite):
    name = "fake-shift"
    generator = "fake-text"


class TestShrink(ObjectiveSuite):
    name = "fake-shrink"
    generator = "fake-points"


class TestContrast(ObjectiveSuite):
    """Its second generator is filled in by the kit."""

    name = "fake-contrast"
    generator = "fake-points"


class TestRecondition(ObjectiveSuite):
    name = "fake-recondition"
    generator = "fake-points"


class TestPretrainOnPoints(ObjectiveSuite):
    name = "pretrain"
    generator = "fake-points"


class TestPretrainOnTokens(ObjectiveSuite):
    name = "pretrain"
    generator = "fake-tokens"


class TestDdoOnTokens(ObjectiveSuite):
    """A likelihood takes the place of a denoiser."""

    name = "ddo"
    generator = "fake-tokens"


class TestMean(ExtractorSuite):
    name = "fake-mean"


class TestLinear(ExtractorSuite):
    name = "fake-linear"


class TestLinearWithTanh(ExtractorSuite):
    name = "fake-linear"
    options = {"nonlinearity": "tanh"}


class TestGap(EvaluatorSuite):
    name = "fake-gap"
    extractor = "fake-mean"


class TestCost(EvaluatorSuite):
    name = "fake-cost"


class TestRings(DatasetSuite):
    name = "fake-rings"


class TestTiles(DatasetSuite):
    name = "fake-tiles"
