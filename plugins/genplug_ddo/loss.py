"""The DDO loss and its log: L = -E_data ln sigma(beta r) - alpha E_ref ln sigma(-beta r) (equation 13)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genplug.fit import StepResult


def ddo_loss(
    real_N: Tensor,
    fake_N: Tensor,
    alpha: float,
    beta: float,
    null_N: Tensor | None = None,
    legacy: bool = False,
) -> StepResult:
    """Return the loss of each pair of log-ratios r, divided by max(alpha, 1), and what to log.

    The division keeps the gradient's scale while alpha is swept. `objective` is the undivided
    loss, (1 + alpha) ln 2 at the start where all rows have labels. `null_N` tells the pairs without.
    """
    weight_real, weight_fake = pair_weights(null_N, alpha, legacy)
    loss_real_N = -weight_real * F.logsigmoid(beta * real_N)
    loss_fake_N = -weight_fake * F.logsigmoid(-beta * fake_N)
    objective_N = loss_real_N + loss_fake_N
    logs = {
        "objective": objective_N,
        "loss_real": loss_real_N,
        "loss_fake": loss_fake_N,
        "log_ratio_real": real_N,
        "log_ratio_fake": fake_N,
        "square_real": real_N.square(),
        "square_fake": fake_N.square(),
        "accuracy": (wins(real_N) + wins(-fake_N)) / 2,
    }
    return StepResult(objective_N / max(alpha, 1.0), logs)


def pair_weights(null_N: Tensor | None, alpha: float, legacy: bool) -> tuple[Tensor | float, Tensor | float]:
    """Return the weights of the real and of the generated term, each one number or N.

    A pair without label has no negative: it trains the branch without labels as maximum likelihood
    would, with max(alpha, 1) so that after the division its weight is that of plain training. The
    official trainer of VAR loses that factor, in a tensor of booleans; `legacy` is what it does.
    """
    if null_N is None:
        return 1.0, alpha
    one = torch.ones_like(null_N, dtype=torch.float32)
    kept = one if legacy else torch.where(null_N, max(alpha, 1.0), one)
    return kept, torch.where(null_N, 0.0, alpha * one)


def wins(r_N: Tensor) -> Tensor:
    """Return 1 where the discriminator is right, 1/2 for a tie."""
    return (r_N > 0).float() + 0.5 * (r_N == 0).float()
