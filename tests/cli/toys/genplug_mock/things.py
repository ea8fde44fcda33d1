"""The toys themselves."""

import errno
import os
import signal
import time

import torch

from genplug.condition import Condition
from genplug.errors import GenplugError
from genplug.protocols import Score
from genplug.random import NoiseSource
from genplug.samplesets import ArraySet

SHAPE = (1, 4, 4)


class GreySquares:
    modality = "image"
    provides = frozenset({"class-conditional"})
    size = None

    def __init__(self, config, light=0):
        self.config, self.light = config, light

    def sample(self, seeds_N, cond=None):
        fail(self.config.fail)
        noise = NoiseSource(seeds_N).uniform((len(seeds_N), *SHAPE), "start")
        return (noise * 2 * self.config.shade * 255 + self.light).clamp(0, 255).to(torch.uint8)

    def conditions(self, seeds_N, policy="balanced"):
        return Condition(labels_N=seeds_N % 3)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def fail(how):
    """Fail as machines and users do."""
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nGPU 0 has ...")
    if how == "disk":
        raise OSError(errno.ENOSPC, "No space left on device", "/full/file")
    if how == "user" or (how == "rank-1" and os.environ.get("RANK") == "1"):
        raise GenplugError("toy-grey cannot do this")
    if how == "sleep":
        time.sleep(60)
    if how == "killed" and os.environ.get("RANK") == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "bug":
        raise ZeroDivisionError("a bug")


class NormalPoints(GreySquares):
    modality = "points"
    provides = frozenset()

    def __init__(self):
        pass

    def sample(self, seeds_N, cond=None):
        return NoiseSource(seeds_N).normal((len(seeds_N), 2), "start")

    def conditions(self, seeds_N, policy="balanced"):
        return None


class AddLight:
    def __init__(self, amount):
        self.amount = amount

    def apply(self, generator, run):
        return GreySquares(generator.config, self.amount)

    def save(self, generator, directory):
        (directory / "light.txt").write_text(str(generator.light))

    def restore(self, base, directory, run):
        return GreySquares(base.config, int((directory / "light.txt").read_text()))


class MeanGrey:
    fingerprint = "toy-mean"

    def preprocess(self, sample):
        return sample.to(torch.float32)

    def __call__(self, batch):
        return {"features": batch.flatten(1).mean(1, keepdim=True)}


class MeanGap:
    def __init__(self, scale):
        self.scale = scale

    def evaluate(self, inputs, run):
        means = [run.features(s, inputs.extractor).mean() for s in (inputs.samples, inputs.held_out)]
        gap = float((means[0] - means[1]).abs()) * self.scale
        n, m = len(inputs.samples), len(inputs.held_out)
        return {"toy-gap": Score(gap, gap - 1, gap + 1, "a guess", n, m, extractor=inputs.extractor)}


class Squares:
    num_classes = 3
    levels = 256

    def split(self, name):
        offset = {"train": 0, "held-out": 1000}[name]
        seeds_N = torch.arange(offset, offset + 32)
        noise = NoiseSource(seeds_N).uniform((32, *SHAPE), "data")
        return ArraySet((noise * 255).to(torch.uint8), seeds_N % 3, f"toy-data:{name}")
