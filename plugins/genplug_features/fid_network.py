"""The Inception network behind FID: TensorFlow's graph of 2015-12-05 with 1008 classes, in torch.

It differs from torchvision's Inception-v3 in what its pools do: an average leaves out the padding, and
the last block has a maximum where the paper has an average. Names of tensors are those of the published
conversion (`pt_inception-2015-12-05-6726825d.pth`). Table: Szegedy et al. 2015, arXiv 1512.00567, table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = int | tuple[int, int]
EPS = 1e-3
SPATIAL_CHANNELS = 7
CLASSES = 1008


@dataclass(frozen=True)
class Conv:
    """A convolution, batch normalisation and ReLU: its name in the block, width and kernel."""

    name: str
    width: int
    kernel: Size
    stride: int = 1

    @property
    def padding(self) -> tuple[int, int]:
        """Blocks keep their size, unless they halve it."""
        high, wide = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
        return (high // 2, wide // 2) if self.stride == 1 else (0, 0)


Step = str | Conv | tuple[Conv, ...]  # a pool, a convolution, or several side by side
Branch = tuple[Step, ...]
AVERAGE, MAXIMUM, HALVE = "average", "maximum", "halve"
POOLS: Mapping[str, Callable[[Tensor], Tensor]] = {
    AVERAGE: lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    MAXIMUM: lambda x: F.max_pool2d(x, 3, 1, 1),
    HALVE: lambda x: F.max_pool2d(x, 3, 2),
}


def _block_35(pool: int) -> tuple[Branch, ...]:
    return (
        (Conv("branch1x1", 64, 1),),
        (Conv("branch5x5_1", 48, 1), Conv("branch5x5_2", 64, 5)),
        (Conv("branch3x3dbl_1", 64, 1), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3)),
        (AVERAGE, Conv("branch_pool", pool, 1)),
    )


def _block_17(width: int) -> tuple[Branch, ...]:
    row, column = (1, 7), (7, 1)
    return (
        (Conv("branch1x1", 192, 1),),
        (
            Conv("branch7x7_1", width, 1),
            Conv("branch7x7_2", width, row),
            Conv("branch7x7_3", 192, column),
        ),
        (
            Conv("branch7x7dbl_1", width, 1),
            Conv("branch7x7dbl_2", width, column),
            Conv("branch7x7dbl_3", width, row),
            Conv("branch7x7dbl_4", width, column),
            Conv("branch7x7dbl_5", 192, row),
        ),
        (AVERAGE, Conv("branch_pool", 192, 1)),
    )


def _block_8(pool: str) -> tuple[Branch, ...]:
    row, column = (1, 3), (3, 1)
    return (
        (Conv("branch1x1", 320, 1),),
        (Conv("branch3x3_1", 384, 1), (Conv("branch3x3_2a", 384, row), Conv("branch3x3_2b", 384, column))),
        (
            Conv("branch3x3dbl_1", 448, 1),
            Conv("branch3x3dbl_2", 384, 3),
            (Conv("branch3x3dbl_3a", 384, row), Conv("branch3x3dbl_3b", 384, column)),
        ),
        (pool, Conv("branch_pool", 192, 1)),
    )


_TO_17: tuple[Branch, ...] = (
    (Conv("branch3x3", 384, 3, 2),),
    (Conv("branch3x3dbl_1", 64, 1), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3, 2)),
    (HALVE,),
)
_TO_8: tuple[Branch, ...] = (
    (Conv("branch3x3_1", 192, 1), Conv("branch3x3_2", 320, 3, 2)),
    (
        Conv("branch7x7x3_1", 192, 1),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        Conv("branch7x7x3_4", 192, 3, 2),
    ),
    (HALVE,),
)
#: The blocks in order; the layers before them are in `Inception`.
BLOCKS: Mapping[str, tuple[Branch, ...]] = {
    "Mixed_5b": _block_35(32),
    "Mixed_5c": _block_35(64),
    "Mixed_5d": _block_35(64),
    "Mixed_6a": _TO_17,
    "Mixed_6b": _block_17(128),
    "Mixed_6c": _block_17(160),
    "Mixed_6d": _block_17(160),
    "Mixed_6e": _block_17(192),
    "Mixed_7a": _TO_8,
    "Mixed_7b": _block_8(AVERAGE),
    "Mixed_7c": _block_8(MAXIMUM),
}


class Norm(nn.Module):
    """The statistics of a batch normalisation, under its usual names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (x - mean) / sqrt(var + eps) * weight + bias."""
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(x, mean, var, self.weight, self.bias, eps=EPS)


class Unit(nn.Module):
    """ReLU(norm(conv x)), as published files store it."""

    def __init__(self, channels: int, spec: Conv, padding: tuple[int, int] | None = None) -> None:
        super().__init__()
        padding = spec.padding if padding is None else padding
        self.conv = nn.Conv2d(channels, spec.width, spec.kernel, spec.stride, padding, bias=False)
        self.bn = Norm(spec.width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return F.relu(self.bn(self.conv(x)))

    def folded(self) -> nn.Conv2d:
        """Return the convolution that includes the normalisation: w * gamma / sqrt(var + eps)."""
        scale = self.bn.weight * (self.bn.get_buffer("running_var") + EPS).rsqrt()
        shift = self.bn.bias - self.bn.get_buffer("running_mean") * scale
        with torch.device("meta"):
            conv = nn.Conv2d(
                self.conv.in_channels,
                self.conv.out_channels,
                self.conv.kernel_size,  # type: ignore[arg-type]
                self.conv.stride,  # type: ignore[arg-type]
                self.conv.padding,  # type: ignore[arg-type]
            )
        conv.weight = nn.Parameter(self.conv.weight * scale[:, None, None, None], requires_grad=False)
        conv.bias = nn.Parameter(shift, requires_grad=False)
        return conv


class Block(nn.Module):
    """Branches side by side, joined along the channels."""

    def __init__(self, channels: int, branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.branches = branches
        self.width = 0
        for branch in branches:
            width = channels
            for step in branch:
                for conv in (step,) if isinstance(step, Conv) else step if isinstance(step, tuple) else ():
                    self.add_module(conv.name, Unit(width, conv))
                width = _width(step, width)
            self.width += width

    def forward(self, x: Tensor) -> Tensor:
        """Return the joined branches."""
        return torch.cat([self.branch(x, branch) for branch in self.branches], 1)

    def branch(self, x: Tensor, steps: Branch) -> Tensor:
        """Return one branch."""
        for step in steps:
            if isinstance(step, str):
                x = POOLS[step](x)
            elif isinstance(step, Conv):
                x = self.get_submodule(step.name)(x)
            else:
                x = torch.cat([self.get_submodule(conv.name)(x) for conv in step], 1)
        return x


def _width(step: Step, width: int) -> int:
    """Return how many channels come out of a step."""
    if isinstance(step, Conv):
        return step.width
    return width if isinstance(step, str) else sum(conv.width for conv in step)


class Inception(nn.Module):
    """The whole network: images NCHW in [-1, 1] -> named features."""

    STEM = (
        (Conv("Conv2d_1a_3x3", 32, 3, 2), 0),
        (Conv("Conv2d_2a_3x3", 32, 3), 0),
        (Conv("Conv2d_2b_3x3", 64, 3), 1),
        (Conv("Conv2d_3b_1x1", 80, 1), 0),
        (Conv("Conv2d_4a_3x3", 192, 3), 0),
    )

    def __init__(self) -> None:
        super().__init__()
        width = 3
        for conv, padding in self.STEM:
            self.add_module(conv.name, Unit(width, conv, (padding, padding)))
            width = conv.width
        for name, branches in BLOCKS.items():
            block = Block(width, branches)
            self.add_module(name, block)
            width = block.width
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        """Return features, logits, the spatial map of ADM and pools of earlier layers, each ND.

        The logits leave out the bias, as those of published Inception Scores do.
        """
        found: dict[str, Tensor] = {}
        for name, x in self.layers(x_NCHW):
            if name in _POOLED:
                found[_POOLED[name]] = x.mean((2, 3))
            elif name == "Mixed_6d":
                found["spatial"] = x[:, :SPATIAL_CHANNELS].flatten(1)
        features = found.pop("features")
        return {"features": features, "logits": features @ self.fc.weight.T, **found}

    def layers(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield what comes out of each layer, by its name."""
        for name, module in self.named_children():
            if name != "fc":
                x = module(x)
                if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                    x = POOLS[HALVE](x)
                yield name, x


_POOLED = {
    "Conv2d_2b_3x3": "pool64",
    "Conv2d_4a_3x3": "pool192",
    "Mixed_6e": "pool768",
    "Mixed_7c": "features",
}


# --- the same function, faster ------------------------------------------------------------------------


class Fused(nn.Module):
    """ReLU(conv x) with a bias."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return F.relu_(self.conv(x))


def fused(network: Inception) -> Inception:
    """Return the network with every normalisation folded into its convolution, channels last.

    On a CPU it takes half the time: the normalisations read and write every activation once more, and
    oneDNN rearranges activations that have their channels first in front of each convolution.
    """
    with torch.device("meta"):
        quick = Inception()
    for path, unit in network.named_modules():
        if isinstance(unit, Unit):
            parent, _, name = path.rpartition(".")
            setattr(quick.get_submodule(parent), name, Fused(unit.folded()))
    quick.fc = network.fc
    return quick.to(memory_format=torch.channels_last).eval().requires_grad_(False)
