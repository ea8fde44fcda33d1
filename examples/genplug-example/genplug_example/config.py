"""Options of the generator and of the evaluator. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genplug.config import Component, Config, GeneratorConfig, SamplerRef
from pydantic import Field

if TYPE_CHECKING:
    from genplug import DenoiserGenerator
    from genplug.runtime import Run

    from genplug_example.evaluator import Ink


class MlpConfig(GeneratorConfig):
    """A small class-conditional MLP; its defaults fit the embedded digits."""

    resolution: int = Field(8, ge=2, le=64, description="pixels along one side of a grey image")
    num_classes: int = Field(10, ge=1, le=1000, description="classes")
    width: int = Field(128, ge=1, le=4096, description="units of a hidden layer")
    sigma_data: float = Field(0.5, gt=0, description="standard deviation of x")
    sampler: SamplerRef = Field(Component(name="heun", steps=12), description="sampler and its options")

    def provides(self) -> frozenset[str]:
        """Return what this generator can do."""
        return frozenset({"denoiser", "trainable", "class-conditional"})

    def x_shape(self) -> tuple[int, ...]:
        """Return CHW of x."""
        return (1, self.resolution, self.resolution)

    def build(self, run: Run) -> DenoiserGenerator:
        """Build the generator with random weights."""
        from genplug_example.generator import build

        return build(self, run)


class InkConfig(Config):
    """Options of the ink score."""

    level: float = Field(0.9, gt=0, lt=1, description="probability of the interval")

    def build(self, run: Run) -> Ink:
        """Return the evaluator."""
        from genplug_example.evaluator import Ink

        return Ink(self.level)
