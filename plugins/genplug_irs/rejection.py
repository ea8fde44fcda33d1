"""Online rejection of a generator that shows too many duplicates (arXiv 2411.16171, section 6, Eq. 10).

To test that a generator reaches s = target * N training images, n samples are drawn and rejected if they
retrieve fewer than k_min distinct ones, k_min the smallest k with P(K <= k | n, s) >= alpha_e. A generator
that does reach s is then rejected with a probability of at most alpha_e. Duplicates only grow, and so do
distinct images: after n - k_min + 1 duplicates, or k_min distinct images, the answer is known, and no more
samples are needed. It is the same as that of all n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from genplug.config import Component
from genplug.errors import ConfigError, DataError
from genplug.random import Purpose
from genplug.runtime import Run
from genplug.samplesets import ArraySet, SampleSet
from genplug.sampling import sample_checked
from genplug_irs.retrieval import Corpus, corpus_of, retrieve
from genplug_irs.statistics import ALPHA_E, k_min, share_of

Verdict = Literal["undecided", "rejected", "accepted"]


@dataclass
class Rejection:
    """A test that a generator reaches a share `target` of N training images, fed as samples come.

    `n` is how many samples it takes at most, `alpha_e` how often it may reject a generator that does.
    """

    target: float
    n: int
    N: int
    alpha_e: float = ALPHA_E
    drawn: int = 0
    seen: set[int] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        if not (0 < self.target <= 1 and self.n >= 1 and self.N >= 1 and 0 < self.alpha_e < 1):
            raise ConfigError(
                f"target {self.target:g}, n {self.n}, N {self.N}, alpha_e {self.alpha_e:g}: "
                "target and alpha_e must be shares, n and N positive"
            )
        self.k_min = k_min(self.n, self.reach, self.alpha_e)

    @property
    def reach(self) -> int:
        """s = target * N, rounded down: in favour of the generator."""
        return share_of(self.target, self.N)

    @property
    def allowed(self) -> int:
        """Duplicates that may be seen; one more rejects."""
        return self.n - self.k_min

    @property
    def distinct(self) -> int:
        """Distinct images so far."""
        return len(self.seen)

    @property
    def duplicates(self) -> int:
        """Samples so far that retrieved an image seen before."""
        return self.drawn - len(self.seen)

    @property
    def verdict(self) -> Verdict:
        """What is known by now; never `undecided` after n samples."""
        if self.duplicates > self.allowed:
            return "rejected"
        return "accepted" if self.distinct >= self.k_min else "undecided"

    def add(self, index_b: Tensor | Iterable[int]) -> Verdict:
        """Count the retrieved images of a batch, in order; what comes after the decision is not looked at."""
        rows = index_b.flatten().tolist() if isinstance(index_b, Tensor) else index_b
        for row in rows:
            if self.verdict != "undecided":
                break
            if not 0 <= row < self.N:
                raise DataError(f"retrieved image {row} is outside the {self.N} training images")
            self.drawn += 1
            self.seen.add(row)
        return self.verdict


@dataclass(frozen=True)
class Gate:
    """Rejects checkpoints while they are sampled, batch by batch: a callback for a `train` objective.

        gate = Gate.of(run, target=0.3, n=1000, extractor="pixels")
        if gate(generator, "step 500").verdict == "rejected":
            ...

    `target` is a share of the training images as the extractor tells them apart: the `irs` of held-out
    real data is about the most there is. Every process decides by the same samples.
    """

    run: Run
    corpus: Corpus
    distance: Component
    target: float
    n: int
    extractor: str
    alpha_e: float = ALPHA_E

    @classmethod
    def of(
        cls,
        run: Run,
        target: float,
        n: int,
        extractor: str,
        distance: str = "euclidean",
        alpha_e: float = ALPHA_E,
        train: SampleSet | None = None,
    ) -> Gate:
        """Make a gate for the run's training data, or `train`."""
        corpus = corpus_of(run.features(train or run.dataset("train"), extractor))
        return cls(run, corpus, Component(name=distance), target, n, extractor, alpha_e)

    def test(self) -> Rejection:
        """Return a fresh test."""
        return Rejection(self.target, self.n, len(self.corpus), self.alpha_e)

    def feed(self, test: Rejection, samples: SampleSet) -> Verdict:
        """Let a batch of samples retrieve, and count."""
        feat_nD = self.run.features(samples, self.extractor)
        return test.add(retrieve(self.run, feat_nD, self.corpus, self.distance).index_n)

    def __call__(
        self,
        generator: Any,
        label: str,
        purpose: Purpose = "select",
        block: int = 0,
        prepare: Callable[[SampleSet], SampleSet] = lambda samples: samples,
    ) -> Rejection:
        """Sample until the test is decided; `prepare` is done to samples as it is where they are scored."""
        test, settings = self.test(), self.run.settings
        for seeds_B in self.run.seeds(purpose, self.n, block).split(settings.batch_size):
            cond = generator.conditions(seeds_B, settings.classes)
            images = sample_checked(generator, seeds_B, cond, label).cpu()
            if self.feed(test, prepare(ArraySet(images, name=label))) != "undecided":
                break
        self.run.event(
            "rejection", label=label, verdict=test.verdict, drawn=test.drawn, distinct=test.distinct
        )
        return test
