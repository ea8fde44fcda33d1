"""The generators and data sets of the fakes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from genplug import Condition, DenoiserGenerator, NoiseSource, NoiseSpec
from genplug.checkpoints import load_strict
from genplug.denoiser import IdentityCodec, Labels
from genplug.readers import open_path
from genplug.samplesets import ArraySet

CLASSES = 2
NOISE = NoiseSpec(log_mean=-1.2, log_std=1.2)


class Mlp(nn.Module):
    """Preconditioned denoiser of flat x."""

    def __init__(self, dim: int, width: int, classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(
                nn.Linear(dim + 1 + classes, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, dim),
            )
        self.classes = classes

    def forward(self, x, sigma, onehot):
        s = sigma.reshape(-1, *(1 for _ in x.shape[1:]))
        c_skip, c_out = 0.25 / (s**2 + 0.25), 0.5 * s / (s**2 + 0.25).sqrt()
        flat = (x / (s**2 + 0.25).sqrt()).flatten(1)
        inputs = [flat, sigma.log().reshape(-1, 1) / 4, *([onehot] if self.classes else [])]
        return c_skip * x + c_out * self.net(torch.cat(inputs, 1)).reshape(x.shape)


@dataclass(frozen=True)
class MlpDenoiser:
    module: nn.Module
    x_shape: tuple[int, ...]
    classes: int
    provides: frozenset[str]
    noise: NoiseSpec = NOISE

    @property
    def device(self):
        return next(self.module.parameters()).device

    def denoise(self, x, sigma_N, cond):
        onehot = None
        if self.classes:
            onehot = F.one_hot(cond.labels_N, self.classes).float()
        return self.module(x, sigma_N, onehot)

    def training_loss(self, x, cond, draws):
        sigma_N = self.noise.draw(draws)
        shaped = sigma_N.reshape(-1, *(1 for _ in x.shape[1:]))
        error = self.denoise(x + shaped * draws.normal(x.shape, "noise"), sigma_N, cond) - x
        return self.noise.weight(sigma_N) * error.square().flatten(1).sum(1)

    def with_module(self, module):
        return replace(self, module=module)

    def after_step(self):
        pass

    def clone(self):
        return replace(self, module=copy.deepcopy(self.module))


def points(config, run):
    module = Mlp(2, config.width, CLASSES, run.seed).to(run.device)
    denoiser = MlpDenoiser(module, (2,), CLASSES, config.provides())
    sampler = run.component("sampler", config.sampler)
    return DenoiserGenerator(denoiser, sampler, IdentityCodec(), Labels(CLASSES), modality="points")


@dataclass(frozen=True)
class OptionalDenoiser(MlpDenoiser):
    """An MLP whose condition is a vector: a class as one-hot, features as they are, nothing as zero."""

    width: int = 32

    def denoise(self, x, sigma_N, cond):
        vector = torch.zeros(len(x), self.classes)
        if cond is not None and cond.features_ND is not None:
            vector = cond.features_ND
        elif cond is not None and cond.labels_N is not None:
            vector = F.one_hot(cond.labels_N.clamp(min=0), self.classes) * (cond.labels_N >= 0)[:, None]
        return self.module(x, sigma_N, vector.to(x))

    def with_unconditional(self):
        return replace(self, provides=self.provides | {"unconditional"})

    def for_features(self, width, seed):
        provides = frozenset({"denoiser", "trainable", "feature-conditional", "null-label"})
        module = Mlp(2, self.width, width, seed).to(self.device)
        return replace(self, module=module, classes=width, provides=provides)


def optional(config, run):
    module = Mlp(2, config.width, CLASSES, run.seed).to(run.device)
    denoiser = OptionalDenoiser(module, (2,), CLASSES, config.provides(), width=config.width)
    sampler = run.component("sampler", config.sampler)
    return DenoiserGenerator(denoiser, sampler, IdentityCodec(), Labels(CLASSES), modality="points")


class LinearCodec:
    """16 grey pixels <-> 4x2x2 latents: a reshape and a scale, so that decoding undoes encoding."""

    def encode(self, samples, noise=None):
        return samples.float().reshape(-1, 4, 2, 2) / 127.5 - 1

    def decode(self, x):
        return ((x.reshape(-1, 1, 4, 4) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def latent(config, run):
    denoiser = MlpDenoiser(Mlp(16, 32, 0, run.seed).to(run.device), (4, 2, 2), 0, config.provides())
    return DenoiserGenerator(denoiser, run.component("sampler", config.sampler), LinearCodec())


class TokenTable(nn.Module):
    """Logits by class, position and previous token."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(
            torch.randn(CLASSES, 16, vocabulary, vocabulary, generator=generator) * 0.1
        )

    def forward(self, tokens_NT, labels_N):
        before = F.pad(tokens_NT[:, :-1], (1, 0))
        at = torch.arange(tokens_NT.shape[1], device=tokens_NT.device)
        return self.logits[labels_N[:, None], at, before].log_softmax(-1)


class Tokens:
    """An autoregressive generator: x are int64 tokens, samples 4x4 grey images."""

    modality, size = "image", None
    provides = frozenset({"likelihood", "trainable", "class-conditional"})
    x_shape = (16,)

    def __init__(self, vocabulary, device, seed, module=None):
        self.vocabulary = vocabulary
        self.module = module if module is not None else TokenTable(vocabulary, seed).to(device)

    def log_prob(self, x, cond):
        return self.module(x, cond.labels_N).gather(-1, x[..., None]).sum((1, 2))

    def encode(self, samples, noise=None):
        return (samples.flatten(1).float() * ((self.vocabulary - 1) / 255)).round().long()

    def decode(self, x):
        return (x.float() * (255 / (self.vocabulary - 1))).round().to(torch.uint8).reshape(-1, 1, 4, 4)

    @torch.no_grad()
    def sample_x(self, seeds_N, cond=None):
        noise, device = NoiseSource(seeds_N), next(self.module.parameters()).device
        x = torch.zeros(len(seeds_N), 16, dtype=torch.int64, device=device)
        labels_N = cond.labels_N.to(device)
        for t in range(16):
            p_NV = self.module(x, labels_N)[:, t].exp()
            u_N = noise.uniform((len(seeds_N),), t).to(device)
            x[:, t] = (p_NV.cumsum(1) < u_N[:, None]).sum(1).clamp(max=self.vocabulary - 1)
        return x

    def sample(self, seeds_N, cond=None):
        return self.decode(self.sample_x(seeds_N, cond))

    def conditions(self, seeds_N, policy="balanced"):
        return Labels(CLASSES)(seeds_N, policy)

    def training_loss(self, x, cond, draws):
        return -self.log_prob(x, cond)

    def with_module(self, module):
        return Tokens(self.vocabulary, None, 0, module)

    def after_step(self):
        pass

    def clone(self):
        return self.with_module(copy.deepcopy(self.module))

    def state_dict(self):
        return self.module.state_dict()

    def load_state_dict(self, state):
        load_strict(self.module, state, "fake-tokens")


class Stateless:
    """What generators without weights share."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def conditions(self, seeds_N, policy="balanced"):
        return None


class Folder(Stateless):
    modality, provides = "image", frozenset()

    def __init__(self, path):
        self.samples = open_path(Path(path))
        self.size = len(self.samples)

    def sample(self, seeds_N, cond=None):
        return self.samples.read((seeds_N % self.size).tolist())


class Text(Stateless):
    modality, size, provides = "image", None, frozenset({"text-conditional"})

    def __init__(self, prompts):
        self.prompts = prompts

    def conditions(self, seeds_N, policy="balanced"):
        return Condition(prompts=tuple(self.prompts[int(s) % len(self.prompts)] for s in seeds_N))

    def sample(self, seeds_N, cond=None):
        levels = torch.tensor([len(prompt) for prompt in cond.prompts], dtype=torch.uint8)
        return levels[:, None, None, None].expand(-1, 1, 4, 4).clone()


class Rings:
    """Class 0 around (-0.5, 0), class 1 around (0.5, 0)."""

    num_classes, levels = CLASSES, 256

    def __init__(self, count):
        labels = torch.arange(count) % CLASSES
        x = NoiseSource(torch.arange(count)).normal((count, 2), "rings") * 0.1
        self.points, self.labels = x + torch.stack([labels - 0.5, torch.zeros(count)], 1), labels

    def split(self, name):
        rows = slice(0, len(self.points) // 2) if name == "train" else slice(len(self.points) // 2, None)
        return ArraySet(self.points[rows], self.labels[rows], f"fake-rings:{name}")


class Tiles:
    """4x4 images: class 0 dark on the left, class 1 dark on top; grey levels 0, 85, 170, 255."""

    num_classes, levels = CLASSES, 4

    def split(self, name):
        seeds = torch.arange(200) + (0 if name == "train" else 1000)
        labels = seeds % CLASSES
        ramp = torch.arange(4).expand(4, 4)
        tiles = torch.stack([ramp, ramp.T])[labels] + NoiseSource(seeds).integers(4, (200, 4, 4), "tiles")
        return ArraySet((tiles.clamp(max=3) * 85).to(torch.uint8)[:, None], labels, f"fake-tiles:{name}")
