"""What a feature extractor promises. Legend: N samples, D feature width."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from genplug.errors import GenplugError
from genplug.extractors import build_extractor
from genplug.parts import Part
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.specs import ExtractorSpec
from genplug.testing.suite import ComponentSuite

ROWS = 4
#: Shapes of samples that are tried in turn: an extractor need not take all.
SHAPES = {"image": ((3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 256, 256)), "points": ((2,), (1,))}


class ExtractorSuite(ComponentSuite):
    """Promises of a feature extractor. `shape` is that of a sample, where it takes one alone."""

    kind: ClassVar[str] = "extractor"
    shape: ClassVar[tuple[int, ...] | None] = None

    @pytest.fixture
    def extractor(self, part: Part, run: Run) -> Any:
        """Return the extractor, with its weights if it has any."""
        return build_extractor(run, part)

    @pytest.fixture
    def samples(self, part: Part, extractor: Any) -> Tensor:
        """Return samples that it takes."""
        modality = part.entry.spec.modality
        known = [shape for kind in SHAPES if modality in (kind, "any") for shape in SHAPES[kind]]
        refusals = []
        for shape in [self.shape] if self.shape else known:
            try:
                self._features(extractor, example(shape))
            except GenplugError as error:
                refusals.append(str(error))
            else:
                return example(shape)
        raise AssertionError(f"it takes none of the shapes {known}: {refusals[0]}")

    def test_features(self, part: Part, extractor: Any, samples: Tensor) -> None:
        """It returns finite float32 features ND under the names of its spec, the default first."""
        spec = part.entry.spec
        assert isinstance(spec, ExtractorSpec)
        found = self._outputs(extractor, samples)
        assert next(iter(found)) == spec.outputs[0], f"{next(iter(found))} comes first, not {spec.outputs[0]}"
        assert set(found) <= set(spec.outputs), f"outputs {tuple(found)}, the spec says {spec.outputs}"
        for name, feat_ND in found.items():
            assert feat_ND.ndim == 2, f"{name} has shape {tuple(feat_ND.shape)}"
            assert len(feat_ND) == len(samples), f"{name} has {len(feat_ND)} rows"
            assert feat_ND.dtype == torch.float32, f"{name} is {feat_ND.dtype}"
            assert bool(feat_ND.isfinite().all()), f"{name} is not finite"

    def test_rows_are_seen_alone(self, extractor: Any, samples: Tensor) -> None:
        """Features of a sample are the same alone and in a batch, in any order, each time."""
        together = self._features(extractor, samples)
        scale = 1e-4 * max(1.0, float(together.abs().max()))
        alone = torch.cat([self._features(extractor, sample[None]) for sample in samples])
        assert float((alone - together).abs().max()) <= scale, "features depend on the batch"
        turned = self._features(extractor, samples.flip(0)).flip(0)
        assert float((turned - together).abs().max()) <= scale, "features depend on the order"

    def test_different_samples_differ(self, extractor: Any, samples: Tensor) -> None:
        """Different samples have different features."""
        feat_ND = self._features(extractor, samples)
        assert not torch.allclose(feat_ND, feat_ND[:1].expand_as(feat_ND)), "all features are equal"

    def test_samples_are_left_alone(self, extractor: Any, samples: Tensor) -> None:
        """The samples that it is given are not changed."""
        kept = samples.clone()
        self._features(extractor, samples)
        assert torch.equal(samples, kept)

    def test_fingerprint(self, part: Part, run: Run, extractor: Any, samples: Tensor) -> None:
        """Its fingerprint is the same for every build, and so are its features."""
        other = build_extractor(run, part)
        assert isinstance(extractor.fingerprint, str), "the fingerprint is no text"
        assert extractor.fingerprint, "the fingerprint is empty"
        assert other.fingerprint == extractor.fingerprint, "a second build has another fingerprint"
        again = self._features(other, samples)
        assert torch.allclose(again, self._features(extractor, samples), atol=1e-5)

    def _outputs(self, extractor: Any, samples: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode():
            found = extractor(torch.stack([extractor.preprocess(sample) for sample in samples]))
        return {name: feat_ND.cpu() for name, feat_ND in found.items()}

    def _features(self, extractor: Any, samples: Tensor) -> Tensor:
        return next(iter(self._outputs(extractor, samples).values()))


def example(shape: tuple[int, ...]) -> Tensor:
    """Return four different samples: images with a slope and noise, or points."""
    noise = NoiseSource(torch.arange(ROWS)).normal((ROWS, *shape), "example")
    if len(shape) == 1:
        return noise
    slope = torch.linspace(0, 60, shape[-1]) * torch.arange(1, ROWS + 1)[:, None, None, None] / 2
    return (60 + slope + 15 * noise).clamp(0, 255).to(torch.uint8)
