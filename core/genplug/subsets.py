"""Fewer rows of a set, chosen by a seed and by what the rows hold, not by where they stand."""

from __future__ import annotations

import torch
from torch import Tensor

from genplug.random import NoiseSource

_ROWS = 4096  # rows in float64 at a time


def ranked(feat_ND: Tensor) -> Tensor:
    """Return the rows in an order that follows from what they hold, not from where they stand."""
    return feat_ND[_ranking(feat_ND).to(feat_ND.device)]


def choose_rows(feat_ND: Tensor, n: int, seed: int) -> Tensor:
    """Return n rows drawn without replacement by a seed; all of them if n is all.

    The draw is of ranks, so the choice does not depend on the order of the rows.
    """
    if n >= len(feat_ND):
        return feat_ND
    drawn_N = torch.randperm(len(feat_ND), generator=torch.Generator().manual_seed(seed))[:n].sort().values
    return feat_ND[_ranking(feat_ND)[drawn_N].to(feat_ND.device)]


def _ranking(feat_ND: Tensor) -> Tensor:
    """Return row numbers by rank along a fixed random direction: rounding only exchanges next ranks."""
    width = feat_ND.shape[1]
    direction_D = NoiseSource(torch.zeros(1, dtype=torch.int64)).normal((1, width), "rank")[0].double()
    pieces = [piece_ND.double().cpu() @ direction_D for piece_ND in torch.split(feat_ND, _ROWS)]
    return torch.cat(pieces).argsort(stable=True)
