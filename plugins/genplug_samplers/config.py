"""Options of the EDM samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genplug.config import Config

if TYPE_CHECKING:
    from genplug.runtime import Run
    from genplug_samplers.sampler import EdmSampler


class EdmSamplerConfig(Config):
    """Noise schedule and churn of EDM (Karras et al. 2022, table 1 and algorithm 2)."""

    steps: int = Field(32, ge=1, le=10_000, description="noise levels above 0")
    sigma_min: float = Field(0.002, gt=0, description="lowest level above 0, raised to the network's range")
    sigma_max: float = Field(80.0, gt=0, description="highest level, lowered to the network's range")
    rho: float = Field(7.0, gt=0, description="exponent of the schedule")
    churn: float = Field(0.0, ge=0, description="S_churn, total noise added and removed")
    churn_min: float = Field(0.0, ge=0, description="S_min, lowest level with churn")
    churn_max: float = Field(float("inf"), gt=0, description="S_max, highest level with churn")
    churn_noise: float = Field(1.0, gt=0, description="S_noise, standard deviation of the added noise")
    precision: Literal["float32", "float64"] = Field("float32", description="precision of the state")


class HeunConfig(EdmSamplerConfig):
    """Options of the Heun sampler: 2 * steps - 1 network evaluations."""

    def evaluations(self) -> int:
        """Return network evaluations per sample."""
        return 2 * self.steps - 1

    def build(self, run: Run) -> EdmSampler:
        """Return the sampler."""
        from genplug_samplers.edm import heun
        from genplug_samplers.sampler import EdmSampler

        return EdmSampler(heun, self)


class EulerConfig(EdmSamplerConfig):
    """Options of the Euler sampler: one network evaluation a step."""

    def evaluations(self) -> int:
        """Return network evaluations per sample."""
        return self.steps

    def build(self, run: Run) -> EdmSampler:
        """Return the sampler."""
        from genplug_samplers.edm import euler
        from genplug_samplers.sampler import EdmSampler

        return EdmSampler(euler, self)
