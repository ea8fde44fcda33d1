"""What a generator promises: samples by seed, and each capability that it claims.

Legend: N samples, K classes, D feature width.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from genplug.condition import Condition
from genplug.config import GeneratorConfig
from genplug.errors import WeightsError
from genplug.parts import Part
from genplug.protocols import Generator, Policy
from genplug.specs import CAPABILITIES, GeneratorSpec
from genplug.testing.capabilities import DenoiserPromises, LikelihoodPromises, TrainablePromises
from genplug.testing.conditional import FeatureTrainablePromises, GuidedPromises, NullLabelPromises
from genplug.testing.suite import ComponentSuite
from genplug.testing.workplace import close, drawn, fresh

#: What an object has if, and only if, it claims a capability.
MARKS = {
    "denoiser": ("denoise", "noise"),
    "likelihood": ("log_prob",),
    "trainable": ("module",),
    "guided": ("guidance",),
}
POLICIES: tuple[Policy, ...] = ("balanced", "random")
CONDITIONS = {
    "class-conditional": ("labels_N", "weights_NK"),
    "feature-conditional": ("features_ND",),
    "text-conditional": ("prompts",),
}


class GeneratorSuite(
    DenoiserPromises,
    LikelihoodPromises,
    TrainablePromises,
    NullLabelPromises,
    FeatureTrainablePromises,
    GuidedPromises,
    ComponentSuite,
):
    """Promises of a generator."""

    kind: ClassVar[str] = "generator"
    seeds: ClassVar[tuple[int, ...]] = (3, 0, 7, 12)

    @pytest.fixture
    def generator(self, part: Part) -> Generator:
        """Return the generator, with random weights if it has none of its own."""
        return fresh(part)

    def test_capabilities_are_what_the_spec_says(self, part: Part, generator: Generator) -> None:
        """Spec, configuration and generator name the same capabilities, of the known words."""
        spec, config = part.entry.spec, part.config
        assert isinstance(spec, GeneratorSpec)
        unknown = set(spec.provides) - set(CAPABILITIES)
        assert not unknown, f"unknown words: {', '.join(sorted(unknown))}"
        assert isinstance(config, GeneratorConfig), "its configuration is no GeneratorConfig"
        extra = config.provides() - set(spec.provides)
        assert not extra, f"the configuration provides more than the spec: {', '.join(sorted(extra))}"
        assert generator.provides == config.provides(), "generator and configuration differ"
        assert spec.modality in ("any", generator.modality), f"it makes {generator.modality}"

    def test_capabilities_are_there_or_absent(self, generator: Generator) -> None:
        """What it claims it has, and what it does not claim it has not."""
        for word, names in MARKS.items():
            for name in names:
                assert hasattr(generator, name) == (word in generator.provides), (
                    f"{word!r} is {'' if word in generator.provides else 'not '}claimed, "
                    f"but {name!r} is {'there' if hasattr(generator, name) else 'missing'}"
                )

    def test_samples(self, generator: Generator) -> None:
        """It makes one finite sample per seed: uint8 NCHW images or float32 points ND."""
        samples = drawn(generator, self._seeds(generator))
        assert len(samples) == len(self.seeds)
        if generator.modality == "image":
            assert samples.dtype == torch.uint8, f"images are {samples.dtype}"
            assert samples.ndim == 4, f"images have shape {tuple(samples.shape)}"
            assert samples.shape[1] in (1, 3), f"images have {samples.shape[1]} channels"
        else:
            assert samples.dtype == torch.float32, f"points are {samples.dtype}"
            assert samples.ndim == 2, f"points have shape {tuple(samples.shape)}"
            assert bool(samples.isfinite().all()), "points are not finite"

    def test_a_sample_depends_on_its_seed_alone(self, generator: Generator) -> None:
        """The same seed gives the same sample, alone and in a batch of four, in any order."""
        if "batch-coupled" in generator.provides:
            pytest.skip("claims to be batch-coupled")
        seeds_N = self._seeds(generator)
        together = drawn(generator, seeds_N)
        alone = torch.cat([drawn(generator, seed) for seed in seeds_N.split(1)])
        assert close(alone, together), "a sample alone differs from the same in a batch"
        assert close(drawn(generator, seeds_N.flip(0)).flip(0), together), "the order of seeds matters"
        assert close(drawn(generator, seeds_N), together), "a second draw differs"

    def test_seeds_matter(self, generator: Generator) -> None:
        """Different seeds give different samples."""
        samples = drawn(generator, self._seeds(generator))
        assert not all(torch.equal(samples[0], sample) for sample in samples), "all samples are equal"

    def test_conditions(self, generator: Generator) -> None:
        """Conditions are of the kind that it claims, a function of the seed, for both policies."""
        seeds_N = self._seeds(generator)
        for policy in POLICIES:
            cond = generator.conditions(seeds_N, policy)
            claimed = [word for word in CONDITIONS if word in generator.provides]
            if cond is None or cond.is_null:
                assert not claimed, f"{claimed} is claimed, but seeds have no condition"
                continue
            assert len(cond) == len(seeds_N)
            kinds = [w for w, names in CONDITIONS.items() if any(getattr(cond, n) is not None for n in names)]
            assert set(kinds) <= set(claimed), f"conditions are {kinds}, claimed is {claimed}"
            for row, seed in enumerate(seeds_N.split(1)):
                alone, there = generator.conditions(seed, policy), cond.take(torch.tensor([row]))
                assert _same(alone, there), f"the {policy} condition of a seed depends on its batch"

    def test_labels(self, generator: Generator) -> None:
        """Labels are int64, from zero on, and every class has its turn."""
        if "class-conditional" not in generator.provides:
            pytest.skip("is not class-conditional")
        cond = generator.conditions(torch.arange(4096), "balanced")
        assert cond is not None
        if cond.labels_N is None:
            pytest.skip("draws soft class weights")
        assert cond.labels_N.dtype == torch.int64
        counts_K = cond.labels_N.bincount()
        assert int(counts_K.max()) - int(counts_K.min()) <= 1, f"classes occur {counts_K.tolist()} times"

    def test_unconditional(self, generator: Generator) -> None:
        """Its unconditional branch makes samples without a condition, one per seed."""
        if "unconditional" not in generator.provides:
            pytest.skip("does not claim an unconditional branch")
        seeds_N = self._seeds(generator)
        with torch.inference_mode():
            samples = generator.sample(seeds_N, Condition(count=len(seeds_N)))
        assert samples.shape == drawn(generator, seeds_N).shape
        assert bool(samples.float().isfinite().all()), "samples without a condition are not finite"

    def test_weights_make_the_generator(self, part: Part, generator: Generator) -> None:
        """Its state, loaded into another of its kind, gives the same samples; what does not fit is named."""
        state = generator.state_dict()
        if not state:
            pytest.skip("has no weights")
        other = fresh(part, seed=1)
        other.load_state_dict({name: value.clone() for name, value in state.items()})
        seeds_N = self._seeds(generator)
        assert close(drawn(other, seeds_N), drawn(generator, seeds_N)), "other samples with the same weights"
        first = next(iter(state))
        for wrong in (
            {**state, "no.such.tensor": torch.zeros(1)},
            {k: state[k] for k in state if k != first},
        ):
            with pytest.raises(WeightsError):
                other.load_state_dict(wrong)

    def _seeds(self, generator: Any) -> Tensor:
        seeds_N = torch.tensor(self.seeds)
        return seeds_N if generator.size is None else seeds_N % generator.size


def _same(a: Any, b: Any) -> bool:
    """Return whether two conditions are equal."""
    for name in ("labels_N", "weights_NK", "features_ND", "prompts"):
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, Tensor) != isinstance(y, Tensor):
            return False
        if not (torch.equal(x.cpu(), y.cpu()) if isinstance(x, Tensor) else x == y):
            return False
    return True
