"""The learning rate by step."""

from __future__ import annotations

import math

from genplug.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, EDM2's inverse square root decay, linear cool-down."""
    rate = config.lr
    if config.decay:
        rate /= math.sqrt(max((step + 1) / config.decay, 1))
    if config.warmup:
        rate *= min((step + 1) / (config.warmup * config.steps), 1)
    if config.cooldown:
        rate *= min((config.steps - step) / (config.cooldown * config.steps), 1)
    return rate
