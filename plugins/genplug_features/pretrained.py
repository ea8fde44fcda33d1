"""What extractors with published weights share: state, strict loading, fingerprint, random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from genplug.checkpoints import digest, load_strict

CPU_ROWS = 4
COUNTER = "num_batches_tracked"  # of batch normalisation in training: some files have it, others do not


class Pretrained:
    """A network and how its images are made. `what` names it in messages, `recipe` is all but its weights."""

    def __init__(self, what: str, network: nn.Module, recipe: str) -> None:
        self.what, self.recipe = what, recipe
        self.network = network.eval().requires_grad_(False)
        if next(network.parameters()).device.type == "cpu":
            self.network.to(memory_format=torch.channels_last)  # what oneDNN need not rearrange
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Return a digest of the weights, and the preprocessing."""
        if not self._fingerprint:
            self._fingerprint = f"{self.what}:{digest(self.state_dict())}:{self.recipe}"
        return self._fingerprint

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name, without counters of training steps."""
        return {name: value for name, value in self.network.state_dict().items() if COUNTER not in name}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load weights, all of them and no others."""
        counters = {name: value for name, value in self.network.state_dict().items() if COUNTER in name}
        load_strict(self.network, {**counters, **without_counters(state)}, self.what)
        self._fingerprint = ""


def without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without counters of training steps."""
    return {name: value for name, value in tensors.items() if not name.endswith(COUNTER)}


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below a prefix by their names there; all of them if none is."""
    found = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
    return found or dict(tensors)


def without(tensors: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with none of the prefixes."""
    return {name: value for name, value in tensors.items() if not name.startswith(prefixes)}


def in_parts(see: Callable[[Tensor], dict[str, Tensor]], batch: Tensor) -> dict[str, Tensor]:
    """Return the outputs for a batch; on a CPU a few images at a time.

    Activations of a few images stay in its caches, and the allocator can use their memory again instead
    of asking the system for new pages: convolutional networks take half the time or less.
    """
    if batch.device.type != "cpu":
        return see(batch)
    x = batch.contiguous(memory_format=torch.channels_last)
    found = [see(some) for some in x.split(CPU_ROWS)]
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make random weights a pure function of the seed, and leave other randomness as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def initialise_for_relu_(network: nn.Module) -> None:
    """Draw the weights of convolutions (He et al. 2015): activations keep their scale over any depth."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
