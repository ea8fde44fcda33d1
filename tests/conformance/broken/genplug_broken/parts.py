"""What the broken components build: each a good part with one thing wrong."""

from __future__ import annotations

import itertools

import torch
from genplug_fakes.objectives import Remade
from genplug_fakes.parts import MlpDenoiser, OptionalDenoiser, Stateless, Tiles, Tokens

from genplug import Condition, NoiseSource, Score

_COUNTER = itertools.count()


class Drifting(Stateless):
    modality, size, provides = "image", None, frozenset()

    def conditions(self, seeds_N, policy="balanced"):
        return None

    def sample(self, seeds_N, cond=None):
        noise = NoiseSource(seeds_N).normal((len(seeds_N), 1, 4, 4), "x") * 40
        return (128 + noise + 10 * len(seeds_N)).clamp(0, 255).to(torch.uint8)


class Boasting(Drifting):
    provides = frozenset({"likelihood"})


class Halving(MlpDenoiser):
    def denoise(self, x, sigma_N, cond):
        return 0.5 * super().denoise(x, sigma_N, cond)


class Trusting(MlpDenoiser):
    def denoise(self, x, sigma_N, cond):
        return x + 0.0 * super().denoise(x, sigma_N, cond)


class Sidestepping(MlpDenoiser):
    def denoise(self, x, sigma_N, cond):
        return x * 0.25 / (sigma_N[:, None] ** 2 + 0.25) + 0 * next(self.module.parameters()).sum()


class Insisting(OptionalDenoiser):
    def denoise(self, x, sigma_N, cond):
        if cond is not None and cond.labels_N is not None:
            cond = Condition(labels_N=cond.labels_N.clamp(min=0))
        return super().denoise(x, sigma_N, cond)


class Modest(OptionalDenoiser):
    def with_unconditional(self):
        return self


class Unsown(OptionalDenoiser):
    def for_features(self, width, seed):
        return super().for_features(width, 0)


class Deaf(OptionalDenoiser):
    def denoise(self, x, sigma_N, cond):
        if cond is None or cond.is_null:
            cond = Condition(features_ND=torch.ones(len(x), self.classes))
        return super().denoise(x, sigma_N, cond)


class Stubborn(MlpDenoiser):
    guidance = 1.0

    def with_guidance(self, scale):
        return self


class Generous(Tokens):
    def log_prob(self, x, cond):
        return super().log_prob(x, cond) + 0.5


class Lazy:
    def sigmas(self, noise):
        return torch.tensor([10.0, 5.0, 2.0])

    def sample(self, denoise, x_T, sigmas, noise):
        return x_T / 2


class Centring:
    fingerprint = "centring"

    def preprocess(self, sample):
        return sample.float()

    def __call__(self, batch):
        flat = batch.flatten(1)
        return {"features": flat - flat.mean(0)}


class Restless(Centring):
    def __init__(self):
        self.fingerprint = f"restless-{next(_COUNTER)}"

    def __call__(self, batch):
        return {"features": batch.flatten(1)}


class Shifted:
    def pairwise(self, a_ND, b_MD):
        return torch.cdist(a_ND.double(), b_MD.double()) + 1

    def index(self, corpus_MD):
        return Nearest(self, corpus_MD)


class Nearest:
    def __init__(self, distance, corpus_MD):
        self.distance, self.corpus_MD = distance, corpus_MD

    def search(self, queries_ND, k):
        return self.distance.pairwise(queries_ND, self.corpus_MD).topk(k, largest=False)


class Unsorted:
    def pairwise(self, a_ND, b_MD):
        return (a_ND[:, None].double() - b_MD[None].double()).norm(dim=2)

    def index(self, corpus_MD):
        return Reversed(self, corpus_MD)


class Reversed(Nearest):
    def search(self, queries_ND, k):
        d_Nk, i_Nk = super().search(queries_ND, k)
        return d_Nk.flip(1), i_Nk.flip(1)


class Vandal(Remade):
    def apply(self, generator, run):
        with torch.no_grad():
            next(generator.module.parameters()).add_(1)
        return generator


class Forgetful(Remade):
    def apply(self, generator, run):
        better = generator.clone()
        with torch.no_grad():
            next(better.module.parameters()).add_(1)
        return better

    def restore(self, base, directory, run):
        return base


class Promising(Remade):
    def apply(self, generator, run):
        return generator.clone()


class Reversing(Forgetful):
    def control(self, generator, run):
        return self.apply(generator, run)


class Mistaken(Promising):
    pass


class Ordered:
    def evaluate(self, inputs, run):
        value = float(inputs.samples.read([0]).float().mean())
        return {"first": Score(value, value, value, "none", len(inputs.samples), 0)}


class Unnamed(Ordered):
    def evaluate(self, inputs, run):
        return {"second": super().evaluate(inputs, run)["first"]}


class Leaking(Tiles):
    def split(self, name):
        return super().split("train")
