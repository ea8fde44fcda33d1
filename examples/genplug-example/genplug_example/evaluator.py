"""Ink: do generated images have as much of it as real ones?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from genplug import Score
from genplug.errors import DataError
from genplug.protocols import EvalInputs
from genplug.runtime import Run
from genplug.samplesets import SampleSet, map_rows
from torch import Tensor


@dataclass(frozen=True)
class Ink:
    """The difference of the mean grey levels, with an interval of probability `level`."""

    level: float

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `ink`: mean over generated images minus mean over held-out ones, in grey levels.

        The interval is Welch's for two independent samples (Welch 1947), with normal quantiles: it
        covers the difference of the distributions, not only of these samples.
        """
        if inputs.held_out is None or min(len(inputs.samples), len(inputs.held_out)) < 2:
            raise DataError("the ink score needs at least 2 generated and 2 held-out images")
        fake_N, real_M = ink(inputs.samples), ink(inputs.held_out)
        value = float(fake_N.mean() - real_M.mean())
        error = math.sqrt(float(fake_N.var()) / len(fake_N) + float(real_M.var()) / len(real_M))
        half = NormalDist().inv_cdf((1 + self.level) / 2) * error
        interval = f"{self.level:.0%} Welch"
        score = Score(value, value - half, value + half, interval, len(fake_N), len(real_M))
        return {"ink": score}


def ink(samples: SampleSet) -> Tensor:
    """Return the mean grey level (0 to 255) of each image, float64 N, read in batches."""
    return map_rows(samples, lambda images_NCHW: images_NCHW.double().flatten(1).mean(1))
