"""Configurations of the broken components."""

from __future__ import annotations

from typing import Any

from genplug_fakes.config import OptionalConfig, PointsConfig, TilesConfig, TokensConfig
from pydantic import ConfigDict, Field

from genplug.config import Config, GeneratorConfig


def _part(name: str, *args: Any, **named: Any) -> Any:
    import genplug_broken.parts as parts

    return getattr(parts, name)(*args, **named)


class Part(Config):
    """Builds the part of its own name."""

    def build(self, run: Any) -> Any:
        return _part(type(self).__name__)


class Drifting(GeneratorConfig):
    """Accepts anything, without a description or a bound."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    amount: int = Field(1)

    def provides(self) -> frozenset[str]:
        return frozenset()

    def build(self, run: Any) -> Any:
        return _part("Drifting")


class Boasting(Drifting):
    def provides(self) -> frozenset[str]:
        return frozenset({"likelihood"})

    def build(self, run: Any) -> Any:
        return _part("Boasting")


class Changed(PointsConfig):
    """The points of the fakes with another denoiser."""

    def build(self, run: Any) -> Any:
        good = super().build(run)
        return good.replace(denoiser=_part(type(self).__name__, **vars(good.denoiser)))


class Halving(Changed):
    pass


class Trusting(Changed):
    pass


class Sidestepping(Changed):
    pass


class Generous(TokensConfig):
    vocabulary: int = Field(2, ge=2, description="tokens")

    def build(self, run: Any) -> Any:
        return _part("Generous", self.vocabulary, run.device, run.seed)


class Insisting(OptionalConfig):
    """The points of the fakes whose labels are optional, with another denoiser."""

    def build(self, run: Any) -> Any:
        good = super().build(run)
        return good.replace(denoiser=_part(type(self).__name__, **vars(good.denoiser)))


class Modest(Insisting):
    pass


class Unsown(Insisting):
    pass


class Deaf(Insisting):
    pass


class Stubborn(Changed):
    def provides(self) -> frozenset[str]:
        return super().provides() | {"guided"}


class Centring(Part):
    pass


class Restless(Part):
    pass


class Shifted(Part):
    pass


class Unsorted(Part):
    pass


class Vandal(Part):
    pass


class Forgetful(Part):
    pass


class Promising(Part):
    pass


class Reversing(Part):
    pass


class Mistaken(Part):
    def adds(self) -> tuple[str, ...]:
        return ("guided",)


class Ordered(Part):
    pass


class Unnamed(Part):
    pass


class Leaking(TilesConfig):
    def build(self, run: Any) -> Any:
        return _part("Leaking")
