"""Options of the fakes. `build` imports the modules beside this one, which import torch."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from genplug.config import Component, Config, GeneratorConfig, Needs, SamplerRef


def _part(name: str, *args: Any, of: str = "parts") -> Any:
    return getattr(import_module(f"genplug_fakes.{of}"), name)(*args)


class PointsConfig(GeneratorConfig):
    """A small MLP denoiser of 2D points."""

    width: int = Field(32, ge=1, description="hidden units")
    sampler: SamplerRef = Field(Component(name="heun", steps=8), description="sampler")

    def provides(self) -> frozenset[str]:
        return frozenset({"denoiser", "trainable", "class-conditional"})

    def x_shape(self) -> tuple[int, ...]:
        return (2,)

    def build(self, run: Any) -> Any:
        return _part("points", self, run)


class OptionalConfig(PointsConfig):
    """The same with an input for a condition that may be absent."""

    def provides(self) -> frozenset[str]:
        return super().provides() | {"null-label", "feature-trainable"}

    def build(self, run: Any) -> Any:
        return _part("optional", self, run)


class LatentConfig(GeneratorConfig):
    """A small MLP denoiser of latents."""

    sampler: SamplerRef = Field(Component(name="euler", steps=4), description="sampler")

    def provides(self) -> frozenset[str]:
        return frozenset({"denoiser", "trainable", "latent", "unconditional"})

    def x_shape(self) -> tuple[int, ...]:
        return (4, 2, 2)

    def build(self, run: Any) -> Any:
        return _part("latent", self, run)


class TokensConfig(GeneratorConfig):
    """A token model with one logit table per position, previous token and class."""

    vocabulary: int = Field(4, ge=2, description="tokens")

    def provides(self) -> frozenset[str]:
        return frozenset({"likelihood", "trainable", "class-conditional"})

    def x_shape(self) -> tuple[int, ...]:
        return (16,)

    def build(self, run: Any) -> Any:
        return _part("Tokens", self.vocabulary, run.device, run.seed)


class FolderConfig(GeneratorConfig):
    """A path of images."""

    path: str = Field(description="folder")

    def provides(self) -> frozenset[str]:
        return frozenset()

    def build(self, run: Any) -> Any:
        return _part("Folder", self.path)


class TextConfig(GeneratorConfig):
    """Prompts by seed."""

    prompts: tuple[str, ...] = Field(("a", "bcd"), min_length=1, description="prompts, in turn")

    def provides(self) -> frozenset[str]:
        return frozenset({"text-conditional"})

    def build(self, run: Any) -> Any:
        return _part("Text", self.prompts)


class ShiftConfig(Config):
    """A constant."""

    by: int = Field(1, ge=-255, le=255, description="added to every value")

    def build(self, run: Any) -> Any:
        return _part("Shift", self.by, of="objectives")


class ShrinkConfig(Config):
    """A factor."""

    factor: float = Field(0.9, ge=0, le=1, description="of the denoised x")

    def build(self, run: Any) -> Any:
        return _part("Shrink", self.factor, of="objectives")


class ContrastConfig(Config):
    """A second generator."""

    guide: Annotated[str, Needs(("denoiser",))] = Field(description="generator to move away from")
    scale: float = Field(1.5, allow_inf_nan=False, description="1 is none")

    def build(self, run: Any) -> Any:
        return _part("Contrast", self.guide, self.scale, of="objectives")


class ReconditionConfig(Config):
    """No options."""

    def build(self, run: Any) -> Any:
        return _part("Recondition", of="objectives")


class RingsConfig(Config):
    """Number of points."""

    count: int = Field(400, ge=4, description="points")

    def build(self, run: Any) -> Any:
        return _part("Rings", self.count)


class TilesConfig(Config):
    """No options."""

    def build(self, run: Any) -> Any:
        return _part("Tiles")


class MeanConfig(Config):
    """No options."""

    def build(self, run: Any) -> Any:
        return _part("Mean", of="judges")


class LinearConfig(Config):
    """A network of two layouts: the published one has another name, and its matrix is turned."""

    width: int = Field(3, ge=1, le=64, description="features")
    nonlinearity: Literal["none", "tanh"] = Field("none", description="what follows the map")

    def build(self, run: Any) -> Any:
        return _part("Linear", self, run.device, of="judges")


class GapConfig(Config):
    """No options."""

    def build(self, run: Any) -> Any:
        return _part("Gap", of="judges")


class CostConfig(Config):
    """No options."""

    def build(self, run: Any) -> Any:
        return _part("Cost", of="judges")
