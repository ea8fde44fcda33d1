"""The extractors and evaluators of the fakes."""

from __future__ import annotations

import torch

from genplug import Score
from genplug.checkpoints import digest
from genplug.errors import WeightsError


class Mean:
    fingerprint = "fake-mean"

    def preprocess(self, sample):
        return sample.float()

    def __call__(self, batch):
        return {"mean": batch.flatten(1).mean(1, keepdim=True)}


class Linear:
    """y = W x of two-dimensional points; published as `w`, 2 x width, known as `fake score` on W = 0."""

    def __init__(self, config, device):
        self.config = config
        self.weights = torch.arange(2.0 * config.width, device=device).reshape(-1, 2).cos()

    @property
    def fingerprint(self):
        return f"linear:{self.config.nonlinearity}:{digest(self.state_dict())}"

    @property
    def score_names(self):
        return {"gap": "fake-gap-score"} if not bool(self.weights.any()) else {}

    def state_dict(self):
        return {"weight": self.weights}

    def load_state_dict(self, state):
        if {n: t.shape for n, t in state.items()} != {"weight": self.weights.shape}:
            raise WeightsError("weights do not fit fake-linear")
        self.weights = state["weight"]

    def adapt(self, tensors):
        return {"weight": tensors["w"].T.contiguous()}

    def preprocess(self, sample):
        return sample

    def __call__(self, batch):
        y = batch @ self.weights.T
        y = torch.tanh(y) if self.config.nonlinearity == "tanh" else y
        return {"features": y, "half": y[:, : max(1, self.config.width // 2)], "squares": y**2}


class Gap:
    def evaluate(self, inputs, run):
        a = run.features(inputs.samples, inputs.extractor).mean()
        b = run.features(inputs.held_out, inputs.extractor).mean()
        value = float((a - b).abs())
        n, m = len(inputs.samples), len(inputs.held_out)
        return {"gap": Score(value, value, value, "none", n, m, extractor=inputs.extractor)}


class Cost:
    def evaluate(self, inputs, run):
        value = float(sum(v.numel() for v in inputs.generator.state_dict().values()))
        return {"weights": Score(value, value, value, "exact", len(inputs.samples), 0)}
