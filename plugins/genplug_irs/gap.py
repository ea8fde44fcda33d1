"""The evaluator `measurement-gap`: how far real data is from the ideal, by extractor and distance.

Held-out real images retrieve training images. If a feature space could tell all of them apart, they would
retrieve what uniform draws do, 1 - (1 - 1/N)^n of N (Eq. 2); what is missing is the extractor's (tables 4
and 6 of the paper), and the reason why scores are taken relative to real data.
"""

from __future__ import annotations

from typing import Any

from genplug.config import Component
from genplug.errors import DataError
from genplug.figures import Interval
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug.subsets import choose_rows
from genplug_irs.config import MeasurementGapConfig
from genplug_irs.occupancy import main_pmf
from genplug_irs.plots import share_plot
from genplug_irs.retrieval import Retrieved, check_held_out, corpus_of, retrieve, two_pools
from genplug_irs.statistics import Reach, chao1, coupon_expected_fraction, estimate_reach

NAME = "measurement-gap"


class MeasurementGap:
    """IRS_alpha of real data against the ideal, `measurement-gap-EXTRACTOR-DISTANCE` for each of both."""

    def __init__(self, config: MeasurementGapConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return the gap for every extractor and distance, in [0, 1]; the first score has the plot."""
        if not inputs.extractors:
            raise DataError(f"{NAME} compares extractors; name at least one")
        rows = [
            self._row(inputs, extractor, distance, run)
            for extractor in inputs.extractors
            for distance in self.config.distances
        ]
        plots = {"measurement gap": self._plot(rows)}
        return {
            f"{NAME}-{row['extractor']}-{row['distance']}": self._score(row, {} if at else plots)
            for at, row in enumerate(rows)
        }

    def _row(self, inputs: EvalInputs, extractor: str, distance: Component, run: Run) -> dict[str, Any]:
        held_out, train = two_pools(inputs.held_out, inputs.train)
        queries_nD, train_ND = run.features(held_out, extractor), run.features(train, extractor)
        if self.config.alpha:
            wanted = round(len(queries_nD) / self.config.alpha)
            if not 1 <= wanted <= len(train_ND):
                raise DataError(
                    f"alpha {self.config.alpha:g} with {len(queries_nD)} real samples needs {wanted} of "
                    f"{len(train_ND)} training samples; alpha may be {len(queries_nD) / len(train_ND):.3g} "
                    f"to {len(queries_nD)}"
                )
            train_ND = choose_rows(train_ND, wanted, run.seed)
        found = retrieve(run, queries_nD, corpus_of(train_ND), distance)
        check_held_out(found, held_out.name, extractor)
        reach = estimate_reach(found.k, len(queries_nD), found.N, self.config.per_bound)
        return {"extractor": extractor, "distance": distance.name, **_facts(found, reach, self.config.level)}

    def _score(self, row: dict[str, Any], plots: dict[str, str]) -> Score:
        ideal = row["ideal_alpha"]
        interval = f"{self.config.level:.0%} of redraws of the count at the fitted s"
        gap, low, high = (ideal - row[key] for key in ("irs_alpha", "alpha_high", "alpha_low"))
        return Score(
            gap, low, high, interval, 0, row["N"], extractor=row["extractor"], extra=row, plots=plots
        )

    def _plot(self, rows: list[dict[str, Any]]) -> str:
        """Draw IRS_alpha of real data for each row; the ideal of the largest N dashed."""
        shown = [
            Interval(f"{r['extractor']} {r['distance']}", r["irs_alpha"], r["alpha_low"], r["alpha_high"])
            for r in rows
        ]
        ideal = max(row["ideal_alpha"] for row in rows)
        return share_plot("training images retrieved by real ones", "share; dashed: ideal", shown, ideal)


def _facts(found: Retrieved, reach: Reach, level: float) -> dict[str, Any]:
    """Return the numbers of one extractor and distance."""
    value, low, high = reach.irs_inf
    law = main_pmf(reach.n, reach.s_hat)
    ends = [min(law.quantile((1 - level) / 2), reach.k), max(law.quantile((1 + level) / 2), reach.k)]
    return {
        "n": reach.n,
        "N": reach.N,
        "alpha": reach.n / reach.N,
        "n_learned": reach.k,
        "irs_alpha": reach.irs_alpha,
        "alpha_low": ends[0] / reach.N,
        "alpha_high": ends[1] / reach.N,
        "ideal_alpha": coupon_expected_fraction(reach.n, reach.N),
        "irs": value,
        "low": low,
        "high": high,
        "chao1": chao1(found.counts_N) / reach.N,
        "most_retrieved": int(found.counts_N.max()),
    }
