"""Weights on disk: safetensors, written atomically, loaded strictly."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genplug.errors import WeightsError

_FOREIGN = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch's zip, pickles


def save_weights(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to `path`: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    try:
        save_file(tensors, partial, dict(metadata or {}))
        partial.chmod(0o644)  # safetensors makes files that only their owner can read
        os.replace(partial, path)
    except SafetensorError as error:  # how safetensors tells a full disk
        raise OSError(str(error)) from None
    finally:
        partial.unlink(missing_ok=True)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file; a missing or damaged one is named."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"no weights at {path}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}){_hint(path)}") from None


def _hint(path: Path) -> str:
    """Return how a file of another format becomes safetensors; nothing for a damaged one."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(2) in _FOREIGN:
            return f"; genplug convert {path} OUT makes one of a torch file or pickle"
    return ""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the text metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error})") from None


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load weights into a module; missing, extra and misshapen tensors are named."""
    own = module.state_dict()
    problems = [
        *(f"missing {name}" for name in own if name not in state),
        *(f"extra {name}" for name in state if name not in own),
        *(
            f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise WeightsError(f"weights do not fit {what}: {'; '.join(problems[:4])}{more}")
    module.load_state_dict(dict(state), strict=True)


def digest(state: Mapping[str, Tensor]) -> str:
    """Return a sha256 over names, shapes, types and values of tensors."""
    hasher = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        hasher.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        hasher.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()
