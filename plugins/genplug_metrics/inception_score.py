"""Inception Score: exp of the mean divergence of each image's class probabilities from their mean.

    IS = exp( E_x KL( p(y|x) || p(y) ) ),   p(y) = E_x p(y|x)                  (Salimans et al. 2016)

Computed in float64 on parts of the rows, each with its own p(y), and averaged. Libraries cut the rows into
parts in four ways that differ by several per cent at small counts; `parts` has them all.

Legend: N rows, K classes, S parts.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Convention = Literal["balanced", "truncated", "ceil"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


def parts(n: int, splits: int, convention: Convention = "balanced") -> list[slice]:
    """Return the parts of n rows.

    `balanced`: part i holds rows [i n / S, (i + 1) n / S), as the original and torch-fidelity cut;
    `truncated`: S parts of n // S rows, the rest left out, as dgm-eval; `ceil`: parts of ceil(n / S) rows,
    the last one shorter and possibly fewer than S, as torchmetrics.
    """
    if not 1 <= splits <= n:
        raise ValueError(f"{splits} parts need at least as many rows, got {n}")
    if convention == "balanced":
        return [slice(i * n // splits, (i + 1) * n // splits) for i in range(splits)]
    size = n // splits if convention == "truncated" else -(-n // splits)
    last = size * splits if convention == "truncated" else n
    return [slice(start, min(start + size, last)) for start in range(0, last, size)]


def inception_scores(logits_NK: Tensor, rows: list[slice]) -> Tensor:
    """Return the score of each part, float64 S, each in [1, K]."""
    return torch.stack([_score(logits_NK[part].detach().double()) for part in rows])


def _score(logits_NK: Tensor) -> Tensor:
    logp_NK = logits_NK.log_softmax(1)
    mean_K = logp_NK.logsumexp(0) - torch.tensor(len(logp_NK), dtype=torch.float64).log()
    p_NK = logp_NK.exp()
    return (p_NK * (logp_NK - mean_K)).sum(1).mean().exp()
