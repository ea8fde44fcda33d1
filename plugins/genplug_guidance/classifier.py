"""Classifiers as guidance uses them: what they think of noised x, and how they are kept on disk.

A class classifier says ln p(label | x, sigma), a real/fake one how real x looks. Both wrap a network
of `classifier_networks`, or, for classes, the exact posterior of data whose density is known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genplug.checkpoints import load_strict, load_weights, save_weights
from genplug.condition import Condition
from genplug.errors import ConfigError, DataError, WeightsError
from genplug.stages import write_json
from genplug_guidance.classifier_networks import kind_for, make_network
from genplug_guidance.gradient_config import NetworkConfig

WEIGHTS, FACTS = "classifier.safetensors", "classifier.json"

#: d is kept within [LIMIT, 1 - LIMIT], beyond which its gradient is taken as 0 (discriminator guidance).
LIMIT = 1e-5


class Potential(Protocol):
    """A function of x whose gradient guides: ln p(c | x, sigma), or how real x looks."""

    def __call__(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return its value in nats, N; constant in rows that are not guided."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights strictly."""


@dataclass(frozen=True)
class OfNetwork:
    """What potentials of a network share."""

    module: nn.Module

    def state_dict(self) -> dict[str, Tensor]:
        """Return the network's weights."""
        state: dict[str, Tensor] = self.module.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the network's weights."""
        load_strict(self.module, state, "the classifier")


@dataclass(frozen=True)
class ClassPotential(OfNetwork):
    """ln p(c | x, sigma) for the labels or class weights of a condition; 0 for rows without one."""

    def __call__(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return ln p(c | x, sigma), N."""
        logp_NK: Tensor = self.module(x, sigma_N).float().log_softmax(1)
        if cond is None or cond.is_null:
            return logp_NK[:, 0] * 0
        value_N: Tensor = (class_weights(cond, logp_NK.shape[1]).to(logp_NK) * logp_NK).sum(1)
        return value_N


@dataclass(frozen=True)
class RealPotential(OfNetwork):
    """How real x looks: ln d (`log_prob`) or ln d / (1 - d) (`logit`), d = p(real | x, sigma).

    A network of several logits is a class-conditional one: the label's logit is taken.
    """

    target: str = "log_prob"

    def __call__(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return the target in nats, N."""
        logit_N = real_logit(self.module(x, sigma_N).float(), cond)
        if self.target == "log_prob":
            return F.logsigmoid(logit_N)
        bound = float(torch.logit(torch.tensor(1 - LIMIT, dtype=torch.float64)))
        return logit_N.clamp(-bound, bound)


@dataclass(frozen=True)
class ExactPosterior:
    """ln p(c | x, sigma) of data whose density is known, by Bayes: ln p(x | c) - ln p(x), up to ln p(c).

    The constant has no gradient, so that no class frequencies are needed.
    """

    log_density: Callable[[Tensor, Tensor, int | None], Tensor]

    def __call__(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        """Return ln p(c | x, sigma) - ln p(c), N."""
        if cond is None or cond.is_null:
            return 0 * x.flatten(1).sum(1)
        if cond.labels_N is None:
            raise ConfigError("the exact classifier takes labels, not soft class weights")
        whole_N = self.log_density(x, sigma_N, None)
        value_N = 0 * whole_N
        for label in cond.labels_N.unique().tolist():
            if label >= 0:
                ratio_N = self.log_density(x, sigma_N, label) - whole_N
                value_N = torch.where(cond.labels_N == label, ratio_N, value_N)
        return value_N

    def state_dict(self) -> dict[str, Tensor]:
        """Return nothing: there are no weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""


def class_weights(cond: Condition, num_classes: int) -> Tensor:
    """Return class weights NK: one-hot labels, zero rows for label -1, or the soft weights given."""
    if cond.weights_NK is not None:
        return cond.weights_NK
    if cond.labels_N is None:
        raise ConfigError("a class classifier guides by labels or class weights, not by other conditions")
    if int(cond.labels_N.max()) >= num_classes:
        raise DataError(f"label {int(cond.labels_N.max())} is asked of a classifier of {num_classes} classes")
    onehot_NK = F.one_hot(cond.labels_N.clamp(min=0), num_classes)
    return onehot_NK * (cond.labels_N >= 0)[:, None]


def real_logit(logits_NK: Tensor, cond: Condition | None) -> Tensor:
    """Return ln d / (1 - d), N: the one logit, or that of the label (their mean without a label)."""
    if logits_NK.shape[1] == 1:
        return logits_NK[:, 0]
    if cond is None or cond.is_null:
        return logits_NK.mean(1)
    weights_NK = class_weights(cond, logits_NK.shape[1]).to(logits_NK)
    bare_N1 = (weights_NK.sum(1, keepdim=True) == 0) / logits_NK.shape[1]
    return ((weights_NK + bare_N1) * logits_NK).sum(1)


@dataclass(frozen=True)
class Blueprint:
    """What a classifier's network is made of: enough to build it again without data."""

    network: NetworkConfig
    x_shape: tuple[int, ...]
    logits: int

    def build(self, seed: int = 0, device: torch.device | str = "cpu") -> nn.Module:
        """Return the network with random weights."""
        return make_network(self.network, self.x_shape, self.logits, seed).to(device)

    def start(self, seed: int, device: torch.device | str) -> nn.Module:
        """Return the network as its training begins: published features, if it is to use some, are loaded."""
        module = self.build(seed, device)
        if self.network.features:
            if kind_for(self.network, self.x_shape) != "unet":
                raise ConfigError("objective.network.features needs kind = unet")
            state = read_state(Path(self.network.features))
            network: Any = module.network
            network.load_features(state)
        return module


def read_classifier(path: Path, blueprint: Blueprint, device: torch.device) -> nn.Module:
    """Return a network with weights from a file: safetensors of this package, or ADM's as published.

    Raises:
        WeightsError: the file does not fit the network that the options describe.
    """
    state = read_state(path)
    module = blueprint.build(device=device)
    own = set(module.state_dict())
    if not own & set(state):  # ADM's names have no prefix
        state = {f"network.{name}": value for name, value in state.items()}
    try:
        load_strict(module, state, f"a classifier of {blueprint.logits} classes on x of {blueprint.x_shape}")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; set objective.network to what the file holds") from None
    return module


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a torch file, in which nothing is run."""
    if path.suffix == ".safetensors" or not path.is_file():
        return load_weights(path)
    from genplug.foreign.convert import read_foreign

    return read_foreign(path).tensors


def save_classifier(directory: Path, potential: Potential, facts: Mapping[str, Any]) -> None:
    """Write weights, if there are any, and everything else that `restore` needs."""
    state = potential.state_dict()
    if state:
        save_weights(state, directory / WEIGHTS)
    write_json(directory / FACTS, dict(facts))


def read_facts(directory: Path) -> dict[str, Any]:
    """Return the facts that `save_classifier` wrote."""
    facts: dict[str, Any] = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    return facts


def saved_network(directory: Path, blueprint: Blueprint, device: torch.device) -> nn.Module:
    """Return the network that `save_classifier` wrote."""
    module = blueprint.build(device=device)
    load_strict(module, load_weights(directory / WEIGHTS), "the saved classifier")
    return module
