"""Options of the data sets and generators of points."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from genplug.config import Component, Config, GeneratorConfig, Kind, SamplerRef

if TYPE_CHECKING:
    from genplug.denoiser import DenoiserGenerator
    from genplug.runtime import Run
    from genplug_toy.datasets import MixtureData


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


#: A data set of this plugin: its name, or a section with its name and options.
DataRef = Annotated[Component, BeforeValidator(_named), Kind("dataset")]


class MixtureConfig(Config):
    """What data drawn from a mixture have in common."""

    train: int = Field(20_000, ge=1, le=10_000_000, description="training points")
    held_out: int = Field(20_000, ge=1, le=10_000_000, description="held-out points")

    @property
    @abstractmethod
    def dims(self) -> int:
        """Dimensions of a point."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Classes; 0 for data without labels."""


class Gaussians1dConfig(MixtureConfig):
    """Two equally frequent classes on a line, N(-m, s) as 0 and N(m, s) as 1."""

    separation: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="m, half the distance of the means (paper: 1, 0.5, 0.1)"
    )
    spread: float = Field(0.05, gt=0, allow_inf_nan=False, description="s")
    spread_is: Literal["std", "variance"] = Field(
        "std", description="what s is; the paper's notation leaves it open"
    )

    @property
    def dims(self) -> int:
        """Dimensions of a point."""
        return 1

    @property
    def num_classes(self) -> int:
        """Classes."""
        return 2

    def build(self, run: Run) -> MixtureData:
        """Draw the points."""
        from genplug_toy.datasets import gaussians_1d

        return gaussians_1d(self)


class FractalConfig(MixtureConfig):
    """Branching line segments on the plane, one or two classes of them."""

    classes: Literal["A", "B", "both"] = Field("A", description="one class without labels, or both with")
    shift: float = Field(
        0.0, ge=-10, le=10, description="moves B along (1, 1) into A: the classes entangle (0.15, 0.3)"
    )

    @property
    def dims(self) -> int:
        """Dimensions of a point."""
        return 2

    @property
    def num_classes(self) -> int:
        """Classes; 0 for one class, which has no labels."""
        return 2 if self.classes == "both" else 0

    def build(self, run: Run) -> MixtureData:
        """Draw the points."""
        from genplug_toy.datasets import fractal_data

        return fractal_data(self)


class PointsConfig(GeneratorConfig):
    """An MLP of points with its noise levels and sampler."""

    dims: int = Field(2, ge=1, le=100_000, description="dimensions of a point")
    width: int = Field(64, ge=1, le=100_000, description="units of a hidden layer")
    depth: int = Field(3, ge=1, le=1000, description="hidden layers")
    octaves: int = Field(2, ge=0, le=16, description="Fourier features of x: sin and cos of pi 2^j x")
    noise_octaves: int = Field(2, ge=0, le=16, description="Fourier features of the noise level")
    num_classes: int = Field(0, ge=0, le=100_000, description="classes (0: unconditional)")
    unconditional: bool = Field(
        False,
        description="the weights were trained with label dropout: the branch without labels can be used",
    )
    sigma_data: float = Field(
        0.5,
        gt=0,
        allow_inf_nan=False,
        description="root mean square of x (fractal: 0.50, each class and both)",
    )
    sigma_min: float = Field(0.002, gt=0, allow_inf_nan=False, description="lowest noise level")
    sigma_max: float = Field(
        20.0,
        gt=0,
        allow_inf_nan=False,
        description="highest noise level; much less and samples keep away from a mean that is not 0",
    )
    log_mean: float = Field(-2.3, allow_inf_nan=False, description="mean of ln sigma in training")
    log_std: float = Field(
        1.5, gt=0, allow_inf_nan=False, description="standard deviation of ln sigma in training"
    )
    sampler: SamplerRef = Field(Component(name="heun", steps=32), description="sampler and its options")

    def provides(self) -> frozenset[str]:
        """Return this configuration's capabilities."""
        has = {"denoiser", "trainable", "feature-trainable"}
        if self.num_classes:
            has |= {"class-conditional", "null-label"}
        if self.unconditional or not self.num_classes:
            has.add("unconditional")
        return frozenset(has)

    def x_shape(self) -> tuple[int, ...]:
        """Return the shape of a point."""
        return (self.dims,)


class ToyConfig(PointsConfig):
    """An EDM-preconditioned MLP denoiser of points (Karras et al. 2022, table 1)."""

    def build(self, run: Run) -> DenoiserGenerator:
        """Build the generator with random weights."""
        from genplug_toy.generators import denoiser_of_points

        return denoiser_of_points(self, run)


class ToyFlowConfig(PointsConfig):
    """An MLP velocity of a rectified flow of points, used as a denoiser."""

    def build(self, run: Run) -> DenoiserGenerator:
        """Build the generator with random weights."""
        from genplug_toy.generators import flow_of_points

        return flow_of_points(self, run)


#: Data sets of known density.
EXACT: dict[str, type[MixtureConfig]] = {"fractal": FractalConfig, "gaussians-1d": Gaussians1dConfig}


class ToyExactConfig(GeneratorConfig):
    """The exact denoiser of data whose density is known; of two classes, with and without labels."""

    data: DataRef = Field(Component(name="fractal"), description="fractal or gaussians-1d, with its options")
    noise: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="samples are data with normal noise of this deviation: a generator with a known error",
    )
    sigma_min: float = Field(0.002, gt=0, allow_inf_nan=False, description="lowest noise level")
    sigma_max: float = Field(80.0, gt=0, allow_inf_nan=False, description="highest noise level")
    sampler: SamplerRef = Field(Component(name="heun", steps=24), description="sampler and its options")

    @field_validator("data")
    @classmethod
    def _has_a_density(cls, data: Component) -> Component:
        if data.name not in EXACT:
            raise ValueError(f"the density of {data.name!r} is not known; it is of {', '.join(EXACT)}")
        return data

    def mixture(self) -> MixtureConfig:
        """Return the options of the data."""
        return EXACT[self.data.name](**self.data.options)

    def provides(self) -> frozenset[str]:
        """Return this configuration's capabilities."""
        labelled = {"class-conditional"} if self.mixture().num_classes else set()
        return frozenset({"denoiser", "unconditional"} | labelled)

    def x_shape(self) -> tuple[int, ...]:
        """Return the shape of a point."""
        return (self.mixture().dims,)

    def build(self, run: Run) -> DenoiserGenerator:
        """Build the generator; it has no weights."""
        from genplug_toy.generators import exact_denoiser

        return exact_denoiser(self, run)
