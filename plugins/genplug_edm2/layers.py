"""Magnitude-preserving layers of EDM2 (Karras et al. 2024, arXiv 2312.02696; equation numbers are that
paper's).

A layer keeps the expected magnitude of activations at one: weights are normalised whenever they are used,
sums and concatenations are rescaled. Constant factors that meet a convolution are folded into its weight
instead of costing a pass over the activations (`scale` of `MPConv.forward`).

Shapes: N batch, C channels, H W grid, K classes, E embedding width, O output and I input channels of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SILU_SCALE = 1 / 0.596  # silu of a unit normal has root mean square 0.596 (Equation 81)


EPS = 1e-4


def normalize(x: Tensor, dim: Sequence[int] | None = None, eps: float = EPS) -> Tensor:
    """Scale `x` to root mean square one over `dim` (default: all but the first); eps is outside the root."""
    return x / (_root_mean_square(x, dim) + eps).to(x.dtype)


def _root_mean_square(x: Tensor, dim: Sequence[int] | None = None) -> Tensor:
    dims = list(range(1, x.ndim)) if dim is None else list(dim)
    length: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=True, dtype=torch.float32)
    return length * math.sqrt(length.numel() / x.numel())


def sum_weights(t: float) -> tuple[float, float]:
    """Factors of a and b in the magnitude-preserving sum, balance t between a (0) and b (1) (Equation 88)."""
    norm = math.hypot(1 - t, t)
    return (1 - t) / norm, t / norm


def mp_sum(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """Sum of two unit-magnitude tensors, again of unit magnitude (Equation 88)."""
    weight_a, weight_b = sum_weights(t)
    return torch.add(a * weight_a, b, alpha=weight_b)


def add_onto(y: Tensor, x: Tensor, alpha: float = 1.0) -> Tensor:
    """Return y + alpha x, in y's memory where autograd does not need it; y must be nobody else's."""
    return torch.add(y, x, alpha=alpha) if _needs_grad(y, x) else y.add_(x, alpha=alpha)


def modulated_silu(y: Tensor, scale: Tensor) -> Tensor:
    """Return silu(y * scale), in y's memory where autograd does not need it; y must be nobody else's."""
    return F.silu(y * scale) if _needs_grad(y, scale) else F.silu(y.mul_(scale), inplace=True)


def _needs_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU that keeps unit magnitude (Equation 81)."""
    return F.silu(x) * SILU_SCALE


def mp_cat(a_NCHW: Tensor, b_NCHW: Tensor, t: float = 0.5) -> Tensor:
    """Concatenate channels so that a and b contribute as 1-t and t whatever their widths (Equation 103)."""
    n_a, n_b = a_NCHW.shape[1], b_NCHW.shape[1]
    total = math.sqrt(n_a + n_b) / math.hypot(1 - t, t)
    weight_a, weight_b = total * (1 - t) / math.sqrt(n_a), total * t / math.sqrt(n_b)
    if _needs_grad(a_NCHW, b_NCHW):
        return torch.cat([a_NCHW * weight_a, b_NCHW * weight_b], dim=1)
    shape = (len(a_NCHW), n_a + n_b, *a_NCHW.shape[2:])
    joined = torch.empty(shape, dtype=a_NCHW.dtype, device=a_NCHW.device, memory_format=torch.channels_last)
    torch.mul(a_NCHW, weight_a, out=joined[:, :n_a])  # one pass over memory instead of two
    torch.mul(b_NCHW, weight_b, out=joined[:, n_a:])
    return joined


def resample(x_NCHW: Tensor, mode: str, filter_taps: Sequence[float] = (1, 1)) -> Tensor:
    """Halve ('down') or double ('up') the grid with a separable filter of even length, or 'keep' it."""
    if mode == "keep":
        return x_NCHW
    taps = torch.tensor(filter_taps, dtype=torch.float32, device=x_NCHW.device)
    taps = taps / taps.sum() * (2 if mode == "up" else 1)
    channels, pad = x_NCHW.shape[1], (len(filter_taps) - 1) // 2
    kernel = torch.outer(taps, taps).to(x_NCHW.dtype).expand(channels, 1, -1, -1)
    conv = F.conv_transpose2d if mode == "up" else F.conv2d
    return conv(x_NCHW, kernel, groups=channels, stride=2, padding=pad)


class MPFourier(nn.Module):
    """Random Fourier features of unit magnitude: sqrt(2) cos(freqs * x + phases) (Equation 75)."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        for name, draw in (("freqs", torch.randn), ("phases", torch.rand)):
            self.register_buffer(name, 2 * math.pi * draw(num_channels))

    def forward(self, x_N: Tensor) -> Tensor:
        angles_ND = torch.outer(x_N.float(), self.freqs.float()) + self.phases.float()
        return (angles_ND.cos() * math.sqrt(2)).to(x_N.dtype)


class _Seen(NamedTuple):
    """A tensor as it was. Holding its storage keeps the address from being reused by other data."""

    alias: Tensor
    version: int

    @classmethod
    def of(cls, x: Tensor) -> _Seen:
        return cls(x.detach(), x._version)

    def matches(self, x: Tensor) -> bool:
        same = (
            self.alias.data_ptr() == x.data_ptr()
            and self.alias.dtype == x.dtype
            and self.alias.device == x.device
        )
        return same and self.version == x._version and self.alias.stride() == x.stride()


class _Folded(NamedTuple):
    """A ready-to-use weight and everything it was computed from."""

    value: Tensor
    weight: _Seen
    gain: _Seen | None
    scale: float

    def matches(self, weight: Tensor, gain: Tensor | None, scale: float, dtype: torch.dtype) -> bool:
        same_gain = gain is None if self.gain is None else gain is not None and self.gain.matches(gain)
        return same_gain and self.scale == scale and self.value.dtype == dtype and self.weight.matches(weight)


class _Memo:
    """Holder for derived data that is never copied or pickled with its module (a copy starts empty)."""

    folded: _Folded | None = None
    normalized: _Seen | None = None
    fingerprint: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Memo:
        return _Memo()

    def __reduce__(self) -> tuple[type[_Memo], tuple[()]]:
        return _Memo, ()


class MPConv(nn.Module):
    """Convolution (kernel of two sizes) or linear layer (kernel empty) with normalised weight, no bias
    (Equation 47).

    In training mode the stored weight is replaced by its normalised version (Equation 66), once per change of
    the weight: a second forward before backward leaves it alone. Without gradients the normalised weight is
    kept between calls, together with the versions of the tensors it came from, so any in-place change,
    replacement or move of the weight or the gain is noticed. Writing through `.data` escapes versions: see
    `forget_if_edited_`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Sequence[int] = ()) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, *kernel))
        self._memo = _Memo()

    def forward(self, x: Tensor, gain: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """Apply to x_NI or x_NIHW; multiply by gain (a learned scalar) and scale (a constant)."""
        if self.training and not self._is_normalized():
            self.force_normalize_()
        weight = self._weight(gain, scale, x.dtype)
        if weight.ndim == 2:
            return x @ weight.t()
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)

    @torch.no_grad()
    def force_normalize_(self) -> None:
        """Replace the stored weight by its normalised version."""
        self.weight.copy_(normalize(self.weight))
        self._memo.normalized = _Seen.of(self.weight)

    @torch.no_grad()
    def _is_normalized(self) -> bool:
        """Return whether the stored weight is the result of `normalize`: known, or seen from its size.

        Normalised once more it would be another weight in the last digit, and a training that continues from
        a saved state another training. (`normalize` gives 1 - eps of what was about one before.)
        """
        seen = self._memo.normalized
        if seen is None or not seen.matches(self.weight):
            error = _root_mean_square(self.weight) - (1 - EPS)
            if float(error.abs().max()) > 0.1 * EPS:
                return False
            self._memo.normalized = _Seen.of(self.weight)
        return True

    def _weight(self, gain: Tensor | None, scale: float, dtype: torch.dtype) -> Tensor:
        if not self._may_keep(gain):
            return self._fold(gain, scale, dtype)
        folded = self._memo.folded
        if folded is None or not folded.matches(self.weight, gain, scale, dtype):
            # Inference-mode tensors cannot be saved for backward, which a later call may need.
            with torch.inference_mode(False), torch.no_grad():
                value = self._fold(gain, scale, dtype)
            folded = _Folded(value, _Seen.of(self.weight), None if gain is None else _Seen.of(gain), scale)
            self._memo.folded = folded
        return folded.value

    def _may_keep(self, gain: Tensor | None) -> bool:
        if self.training or torch.compiler.is_compiling():
            return False
        sources = [self.weight] if gain is None else [self.weight, gain]
        if torch.is_grad_enabled() and any(s.requires_grad for s in sources):
            return False
        # Inference tensors have no version; non-parameters (functional_call) may have no address.
        return all(isinstance(s, nn.Parameter) and not s.is_inference() for s in sources)

    def _fold(self, gain: Tensor | None, scale: float, dtype: torch.dtype) -> Tensor:
        weight = normalize(self.weight.float())
        factor = scale / math.sqrt(weight[0].numel())
        weight = (weight * (factor if gain is None else gain * factor)).to(dtype)
        return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight


def force_normalize_(module: nn.Module) -> None:
    """Apply forced weight normalisation to every layer, in training or evaluation mode (Equation 66)."""
    for layer in module.modules():
        if isinstance(layer, MPConv):
            layer.force_normalize_()


def forget_folded_(module: nn.Module) -> None:
    """Drop every kept weight of `module`; the next call computes them anew."""
    for layer in module.modules():
        if isinstance(layer, MPConv):
            layer._memo.folded = None


@torch.no_grad()
def forget_if_edited_(module: nn.Module, memo: _Memo) -> None:
    """Drop kept weights if the parameters changed behind autograd's back (`p.data.copy_`, shared memory).

    Compares eight elements spread over each parameter with those of the last call, which sees every edit of
    whole tensors, as optimisers and averages make. After writing single elements through `.data` call
    `forget_folded_`.
    """
    parameters = list(module.parameters())
    if (
        not parameters
        or torch.compiler.is_compiling()
        or not all(isinstance(p, nn.Parameter) for p in parameters)
    ):
        return
    # One vector, one comparison: a comparison per layer would synchronise an accelerator once per layer.
    fingerprint = torch.cat([_probe(p).float() for p in parameters])
    if memo.fingerprint is None or not torch.equal(memo.fingerprint, fingerprint.cpu()):
        forget_folded_(module)
        memo.fingerprint = fingerprint.cpu()


def _probe(x: Tensor, elements: int = 8) -> Tensor:
    count = min(elements, x.numel())
    return x.detach().as_strided((count,), (max(x.numel() // elements, 1),))
