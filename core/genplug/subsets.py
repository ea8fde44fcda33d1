"""Fewer rows of a set, chosen by a seed and by what the rows hold, not by where they stand."""

from __future__ import annotations

import torch
from torch import Tensor

from genplug.random import NoiseSource


def choose_rows(feat_ND: Tensor, n: int, seed: int) -> Tensor:
    """Return n rows drawn without replacement by a seed; all of them if n is all.

    Rows are ranked along a fixed random direction and ranks are drawn. So the choice does not
    depend on the order of the rows, and rounding errors can only exchange rows of next rank.
    """
    if n >= len(feat_ND):
        return feat_ND
    width = feat_ND.shape[1]
    direction_D = NoiseSource(torch.zeros(1, dtype=torch.int64)).normal((1, width), "rank")[0].double()
    ranked_N = (feat_ND.double().cpu() @ direction_D).argsort(stable=True)
    drawn_N = torch.randperm(len(feat_ND), generator=torch.Generator().manual_seed(seed))[:n].sort().values
    return feat_ND[ranked_N[drawn_N].to(feat_ND.device)]
