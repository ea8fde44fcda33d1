"""The DDO loss and its log: L = -E_data ln sigma(beta r) - alpha E_ref ln sigma(-beta r) (equation 13)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from genplug.fit import StepResult


def ddo_loss(real_N: Tensor, fake_N: Tensor, alpha: float, beta: float) -> StepResult:
    """Return the loss of each pair of log-ratios r, divided by max(alpha, 1), and what to log.

    The division keeps the gradient's scale while alpha is swept. `objective` is the undivided
    loss, (1 + alpha) ln 2 at the start.
    """
    loss_real_N = -F.logsigmoid(beta * real_N)
    loss_fake_N = -alpha * F.logsigmoid(-beta * fake_N)
    objective_N = loss_real_N + loss_fake_N
    logs = {
        "objective": objective_N,
        "loss_real": loss_real_N,
        "loss_fake": loss_fake_N,
        "log_ratio_real": real_N,
        "log_ratio_fake": fake_N,
        "square_real": real_N.square(),
        "square_fake": fake_N.square(),
        "accuracy": (_wins(real_N) + _wins(-fake_N)) / 2,
    }
    return StepResult(objective_N / max(alpha, 1.0), logs)


def _wins(r_N: Tensor) -> Tensor:
    """Return 1 where the discriminator is right, 1/2 for a tie."""
    return (r_N > 0).float() + 0.5 * (r_N == 0).float()
