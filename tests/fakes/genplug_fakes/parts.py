"""What the fakes' configurations build."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from genplug import Condition, DenoiserGenerator, NoiseSource, NoiseSpec, Score
from genplug.checkpoints import digest, load_strict
from genplug.denoiser import IdentityCodec, Labels
from genplug.errors import WeightsError
from genplug.readers import open_path
from genplug.samplesets import ArraySet
from genplug.stages import write_json

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


@dataclass
class Shifted:
    """Any generator with its samples moved: a wrapper, so it works for black boxes."""

    inner: object
    by: int

    @property
    def provides(self):
        return self.inner.provides - {"denoiser", "likelihood", "trainable"}

    @property
    def modality(self):
        return self.inner.modality

    @property
    def size(self):
        return self.inner.size

    def conditions(self, seeds_N, policy="balanced"):
        return self.inner.conditions(seeds_N, policy)

    def sample(self, seeds_N, cond=None):
        samples = self.inner.sample(seeds_N, cond)
        moved = samples.float() + self.by
        return moved.clamp(0, 255).to(torch.uint8) if samples.dtype == torch.uint8 else moved

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)


class Remade:
    """Objectives without weights of their own: restoring is applying again."""

    def save(self, generator, directory):
        write_json(directory / "objective.json", {"name": type(self).__name__})

    def restore(self, base, directory, run):
        return self.apply(base, run)


class Shift(Remade):
    def __init__(self, by):
        self.by = by

    def apply(self, generator, run):
        return Shifted(generator, self.by)


TRAINING = {"trainable", "feature-trainable", "null-label"}


@dataclass(frozen=True)
class Guided:
    """A denoiser changed by a function of (D, x, sigma, cond); not trainable."""

    inner: object
    change: object

    @property
    def provides(self):
        return self.inner.provides - TRAINING

    @property
    def x_shape(self):
        return self.inner.x_shape

    @property
    def noise(self):
        return self.inner.noise

    @property
    def device(self):
        return self.inner.device

    def denoise(self, x, sigma_N, cond):
        return self.change(self.inner, x, sigma_N, cond)


@dataclass(frozen=True)
class Factor:
    value: float

    def __call__(self, inner, x, sigma_N, cond):
        return self.value * inner.denoise(x, sigma_N, cond)


class Shrink:
    """Its control is the same denoiser, not pulled."""

    def __init__(self, factor):
        self.factor = factor

    def apply(self, generator, run):
        return generator.replace(denoiser=Guided(generator.denoiser, Factor(self.factor)))

    def control(self, generator, run):
        return generator.replace(denoiser=Guided(generator.denoiser, Factor(1.0)))

    def save(self, generator, directory):
        write_json(directory / "objective.json", {"factor": generator.denoiser.change.value})

    def restore(self, base, directory, run):
        factor = json.loads((directory / "objective.json").read_text())["factor"]
        return base.replace(denoiser=Guided(base.denoiser, Factor(factor)))


@dataclass(frozen=True)
class Contrasted(Guided):
    """`change` is the guide."""

    guidance: float = 1.0

    @property
    def provides(self):
        return super().provides | {"guided"}

    def with_guidance(self, scale):
        return replace(self, guidance=scale)

    def denoise(self, x, sigma_N, cond):
        ours, theirs = (one.denoise(x, sigma_N, cond) for one in (self.inner, self.change))
        return torch.lerp(theirs, ours, self.guidance)


class Contrast(Remade):
    def __init__(self, guide, scale):
        self.guide, self.scale = guide, scale

    def apply(self, generator, run):
        guide = run.generator(self.guide)
        return generator.replace(denoiser=Contrasted(generator.denoiser, guide, self.scale))


class FeaturesBySeed:
    """Conditions of the reconditioned generator: one-hot features drawn by seed."""

    def __call__(self, seeds_N, policy="balanced"):
        return Condition(features_ND=F.one_hot(seeds_N % CLASSES, CLASSES).float())


@dataclass(frozen=True)
class FromFeatures(Guided):
    @property
    def provides(self):
        return super().provides - {"class-conditional"} | {"feature-conditional"}


class Recondition(Remade):
    def apply(self, generator, run):
        def change(inner, x, sigma_N, cond):
            return inner.denoise(x, sigma_N, Condition(labels_N=cond.features_ND.argmax(1)))

        return generator.replace(
            denoiser=FromFeatures(generator.denoiser, change), conditioning=FeaturesBySeed()
        )


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
