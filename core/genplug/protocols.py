"""The objects that components build, as small protocols: one per capability word.

Legend of shape suffixes: N batch, C channels, H W pixels or latent grid, D feature width,
K classes. `x` is what a network works on; `samples` are uint8 images NCHW or float32 points ND.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from genplug.condition import Condition
from genplug.random import NoiseSource

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug.samplesets import SampleSet
    from genplug.statistics import Statistics

Policy = Literal["balanced", "random"]


@dataclass(frozen=True)
class NoiseSpec:
    """The noise levels of a denoiser, in units of x.

    `log_mean` and `log_std` give the training distribution of ln sigma (a normal one).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    log_mean: float = -1.2
    log_std: float = 1.2

    def weight(self, sigma_N: Tensor) -> Tensor:
        """Return lambda(sigma) = (sigma^2 + sigma_d^2) / (sigma sigma_d)^2 (EDM, table 1)."""
        return (sigma_N**2 + self.sigma_data**2) / (sigma_N * self.sigma_data) ** 2

    def draw(self, noise: NoiseSource, step: int | str = "sigma") -> Tensor:
        """Draw one training noise level per seed, float32 N."""
        normal_N = noise.normal((len(noise),), step)
        return (normal_N * self.log_std + self.log_mean).exp()

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """Return the nearest levels that the network knows; the identity for continuous ones."""
        return sigma


@runtime_checkable
class Generator(Protocol):
    """A source of samples. What else it can do is listed in `provides`."""

    modality: str
    provides: frozenset[str]
    size: int | None  # None: unlimited

    def sample(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        """Return one sample per seed: uint8 NCHW in [0, 255], or float32 points ND."""

    def conditions(self, seeds_N: Tensor, policy: Policy = "balanced") -> Condition | None:
        """Return the condition that belongs to each seed; None for unconditional generators."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return all weights by name."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load all weights; missing, extra or misshapen names raise `WeightsError`."""


class XSpace(Protocol):
    """What generators with their own space x share: `denoiser` and `likelihood` ones."""

    x_shape: tuple[int, ...]

    def encode(self, samples: Tensor, noise: NoiseSource | None = None) -> Tensor:
        """Return samples as x; `noise` for stochastic encoders, their mean without."""

    def decode(self, x: Tensor) -> Tensor:
        """Return x as samples."""

    def sample_x(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        """Return one x per seed, before decoding."""


class Denoises(Protocol):
    """Capability `denoiser`: D(x; sigma) = E[clean | clean + sigma * noise = x]."""

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""

    @property
    def noise(self) -> NoiseSpec:
        """The noise levels."""

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return the expected clean x, same shape, for one noise level per row."""


class HasLikelihood(XSpace, Protocol):
    """Capability `likelihood`. Where x are int64 tokens, `vocabulary` is how many values one has."""

    vocabulary: int | None

    def log_prob(self, x: Tensor, cond: Condition | None) -> Tensor:
        """Return ln p(x | cond) in nats, summed over x: float32 N."""


class Trainable(Protocol):
    """Capability `trainable`. Every method that uses the network goes through `module`."""

    module: nn.Module

    def with_module(self, module: nn.Module) -> Any:
        """Return the same generator around another (wrapped, averaged) module."""

    def training_loss(self, x: Tensor, cond: Condition | None, draws: NoiseSource) -> Tensor:
        """Return the pretraining loss of each row, N, with all randomness from `draws`."""

    def after_step(self) -> None:
        """Restore invariants of the weights after an optimiser step."""

    def clone(self) -> Any:
        """Return an independent copy with its own weights."""


class LabelsOptional(Protocol):
    """Capability `null-label`: a row with label -1, as a `Condition.null`, has no label."""

    def with_unconditional(self) -> Any:
        """Return the same generator saying `unconditional`: training has filled that branch."""


class FeatureTrainable(Protocol):
    """Capability `feature-trainable`."""

    def for_features(self, width: int, seed: int) -> Any:
        """Return the same architecture with random weights that depend on the seed.

        It is conditioned on `features_ND` of that width in the place of labels, provides
        `feature-conditional` and `null-label`, and takes an absent condition as the zero vector.
        """


class HasGuidance(Protocol):
    """Capability `guided`: guidance of scale 1 is none."""

    @property
    def guidance(self) -> float:
        """The scale."""

    def with_guidance(self, scale: float) -> Any:
        """Return the same generator at another scale."""


class Denoiser(Denoises, Protocol):
    """The network half of a `DenoiserGenerator`."""

    @property
    def provides(self) -> frozenset[str]:
        """The capabilities that it claims."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""


class Sampler(Protocol):
    """A way to integrate a denoiser."""

    def sigmas(self, noise: NoiseSpec) -> Tensor:
        """Return the noise levels from high to 0, float32 S+1."""

    def sample(
        self, denoise: Callable[[Tensor, Tensor], Tensor], x_T: Tensor, sigmas: Tensor, noise: NoiseSource
    ) -> Tensor:
        """Integrate from x_T = sigmas[0] * normal noise to a clean x.

        `denoise(x, sigma_N)` has the condition bound in; extra noise is `noise.normal(shape, step)`.
        """


class Codec(Protocol):
    """Between samples (uint8 images, points) and x."""

    def encode(self, samples: Tensor, noise: NoiseSource | None = None) -> Tensor:
        """Return samples as float32 x."""

    def decode(self, x: Tensor) -> Tensor:
        """Return x as samples."""


class Objective(Protocol):
    """A function from generator to generator, whose result can be saved and restored.

    It may also have `control(generator, run) -> Generator`: what the same compute gives without the
    method, judged beside the result with `run.control`. The control is a generator that `save` and
    `restore` take too.
    """

    def apply(self, generator: Any, run: Run) -> Generator:
        """Return the better generator. Long work goes through `run.stage` and `run.fit`."""

    def save(self, generator: Any, directory: Path) -> None:
        """Write what `restore` needs into an empty directory, as safetensors and JSON."""

    def restore(self, base: Any, directory: Path, run: Run) -> Generator:
        """Return the generator that `save` saw, given the generator that `apply` got."""


class Extractor(Protocol):
    """Features of samples.

    It may also have what core uses where it is there: `state_dict()` and `load_state_dict(state)`, if
    its weights are published (`extractors`); `adapt(tensors)`, which turns the tensors of the published
    file into its own state; and `score_names`, the names under which scores on its features are known
    (`{"fd": "fid"}`), if they are known under others than `SCORE-EXTRACTOR`.
    """

    @property
    def fingerprint(self) -> str:
        """Return a digest of weights and preprocessing: equal ones give equal features."""

    def preprocess(self, sample: Tensor) -> Tensor:
        """Turn one sample (uint8 CHW, 1 or 3 channels, or a float32 point) into a network input.

        It is called in several threads at once.
        """

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Return float32 features ND by output name, the default first, for preprocessed samples.

        Spatial maps are flattened to rows, channels first.
        """


class Index(Protocol):
    """A corpus of feature rows, ready to be searched."""

    def search(self, queries_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return distances and row numbers of the k nearest corpus rows, ascending, Nk each."""


class Distance(Protocol):
    """A distance between feature rows; lower is closer."""

    def pairwise(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        """Return all distances, NM."""

    def index(self, corpus_MD: Tensor) -> Index:
        """Return a searchable index of the rows."""


class Dataset(Protocol):
    """A finite set of samples with splits. `levels`: grey levels of its images, 256 if usual.

    Data whose density is known may also have `log_density(x_ND, sigma, label) -> Tensor N`: nats of the
    points plus noise of that level under one class, or under all of them where the label is None.
    """

    num_classes: int | None
    levels: int

    def split(self, name: str) -> SampleSet:
        """Return one split."""


@dataclass(frozen=True)
class Score:
    """One number of one evaluator, with everything needed to read it.

    `plots` are pictures by title, SVG made with `genplug.figures`: reports show them. `measure` is the
    score's name in the evaluator's spec, which core fills in.
    """

    value: float
    low: float
    high: float
    interval: str  # what [low, high] is
    n_generated: int
    n_real: int
    seeds: str = ""
    extractor: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    plots: Mapping[str, str] = field(default_factory=dict)
    measure: str = ""


@dataclass(frozen=True)
class EvalInputs:
    """What an evaluator sees. `real` data is split so that nothing is judged by what it was trained on.

    `extractor` is the one whose features are asked for, `extractors` are all of them; both are what
    `Run.features` takes. `statistics` are there beside or instead of `held_out`. `block` is the seed
    block of the samples: evaluators that draw their own take `run.seeds("sample", n, inputs.block)`.
    """

    samples: SampleSet
    held_out: SampleSet | None = None
    train: SampleSet | None = None
    extractor: str | None = None
    generator: Generator | None = None
    base: Generator | None = None
    extractors: tuple[str, ...] = ()
    statistics: Statistics | None = None
    block: int = 0


class Evaluator(Protocol):
    """A judge of sample sets."""

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return scores by the names in the evaluator's spec."""
