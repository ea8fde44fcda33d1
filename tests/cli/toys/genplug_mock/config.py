"""Configurations of the toys."""

from pydantic import Field

from genplug.config import Config, GeneratorConfig


class Grey(GeneratorConfig):
    """`fail` makes sampling fail as machines and users do."""

    shade: float = Field(0.5, ge=0, le=1, description="mean grey")
    fail: str = Field("", description="how to fail")

    def provides(self):
        return frozenset({"class-conditional"})

    def build(self, run):
        from genplug_mock.things import GreySquares

        return GreySquares(self)


class Points(GeneratorConfig):
    def provides(self):
        return frozenset()

    def build(self, run):
        from genplug_mock.things import NormalPoints

        return NormalPoints()


class Brighter(Config):
    amount: int = Field(10, ge=0, le=255, description="grey levels added")

    def build(self, run):
        from genplug_mock.things import AddLight

        return AddLight(self.amount)


class Mean(Config):
    def build(self, run):
        from genplug_mock.things import MeanGrey

        return MeanGrey()


class Gap(Config):
    scale: float = Field(1.0, gt=0, description="factor")

    def build(self, run):
        from genplug_mock.things import MeanGap

        return MeanGap(self.scale)


class Data(Config):
    def build(self, run):
        from genplug_mock.things import Squares

        return Squares()
