"""The evaluator `retrieval-agreement`: do extractors retrieve the same training images?

Every held-out real image retrieves one training image per extractor. Pairwise agreement is the share of
images for which two extractors retrieve the same one; a consensus is there where at least m of them do, and
an extractor's share in it is how often it retrieves that one (table 1 of the paper, m = 5 of 9).

Legend: n queries, E extractors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genplug.errors import ConfigError, DataError
from genplug.protocols import EvalInputs, Score
from genplug.runtime import Run
from genplug_irs.config import RetrievalAgreementConfig
from genplug_irs.plots import heat_map
from genplug_irs.retrieval import Corpus, check_held_out, retrieve, two_pools
from genplug_metrics.intervals import bootstrap_mean, wilson

LEVEL = 0.9  # of the intervals


class RetrievalAgreement:
    """Mean pairwise agreement, consensus, and each extractor's share in it; tables in `extra`."""

    def __init__(self, config: RetrievalAgreementConfig) -> None:
        self.config = config

    def evaluate(self, inputs: EvalInputs, run: Run) -> dict[str, Score]:
        """Return `retrieval-agreement`, `retrieval-consensus` and `retrieval-share-EXTRACTOR`, in [0, 1]."""
        held_out, train = two_pools(inputs.held_out, inputs.train)
        names = inputs.extractors
        if len(names) < 2:
            raise DataError("retrieval-agreement compares extractors; name at least two")
        least = self.config.least or len(names) // 2 + 1
        if not 2 <= least <= len(names):
            raise ConfigError(f"least = {least} of {len(names)} extractors; it must be 2 to {len(names)}")
        found = {}
        for name in names:
            corpus = Corpus(run.features(train, name), 0)
            found[name] = retrieve(run, run.features(held_out, name), corpus, self.config.distance)
            check_held_out(found[name], held_out.name, name)
        index_nE = torch.stack([one.index_n for one in found.values()], 1)
        return scores_of(index_nE, names, least, len(train))


def pairwise_agreement(index_nE: Tensor) -> Tensor:
    """Return the share of queries for which both extractors retrieve the same image, EE."""
    return (index_nE[:, :, None] == index_nE[:, None]).double().mean(0)


def consensus(index_nE: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Return which queries have a consensus, and the image that most retrieve (the first of equals)."""
    votes_nE = (index_nE[:, :, None] == index_nE[:, None]).sum(2)
    most_n = votes_nE.amax(1)
    image_n = index_nE.masked_fill(votes_nE < most_n[:, None], torch.iinfo(torch.int64).max).amin(1)
    return most_n >= least, image_n


def scores_of(index_nE: Tensor, names: Sequence[str], least: int, N: int) -> dict[str, Score]:
    """Turn retrieved images into scores; `extra` and the plot are at the first."""
    n, E = index_nE.shape
    there_n, image_n = consensus(index_nE, least)
    size = int(there_n.sum())
    hits_E = (index_nE[there_n] == image_n[there_n, None]).sum(0).tolist()
    agree_EE = pairwise_agreement(index_nE).tolist()
    extra = {
        "n": n,
        "pairwise": {a: dict(zip(names, row, strict=True)) for a, row in zip(names, agree_EE, strict=True)},
        "least": least,
        "n_consensus": size,
        "share_in_consensus": {a: h / size if size else None for a, h in zip(names, hits_E, strict=True)},
    }
    picture = heat_map("same image retrieved, percent", f"{n} real images", names, agree_EE)

    def share(hits: int, of: int, what: str, extractor: str = "") -> Score:
        found = wilson(hits, of, LEVEL)
        kind = f"{LEVEL:.0%} Wilson, over images{what}"
        return Score(hits / of, found.low, found.high, kind, 0, N, extractor=extractor)

    scores = {
        "retrieval-agreement": Score(
            *_mean_pair(index_nE, E),
            interval=f"{LEVEL:.0%} bootstrap over images",
            n_generated=0,
            n_real=N,
            extra=extra,
            plots={"agreement of extractors": picture},
        ),
        "retrieval-consensus": share(size, n, ""),
    }
    for name, hits in zip(names, hits_E, strict=True) if size else ():
        scores[f"retrieval-share-{name}"] = share(hits, size, " with a consensus", name)
    return scores


def _mean_pair(index_nE: Tensor, E: int) -> tuple[float, float, float]:
    """Return the mean agreement of two different extractors, with its interval."""
    votes_n = (index_nE[:, :, None] == index_nE[:, None]).sum((1, 2)).double()
    pairs_n = (votes_n - E) / (E * (E - 1))
    found, value = bootstrap_mean(pairs_n, level=LEVEL), float(pairs_n.mean())
    return value, min(found.low, value), max(found.high, value)
