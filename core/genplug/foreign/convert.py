"""Foreign weight files as tensors, and as safetensors on disk.

found = read_foreign(Path("network-snapshot.pkl"))
found.tensors, found.facts["class_name"]

convert(Path("network-snapshot.pkl"), Path("weights.safetensors"))
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from genplug.checkpoints import save_weights
from genplug.errors import WeightsError
from genplug.foreign.containers import find
from genplug.foreign.files import read_values
from genplug.foreign.fitting import misfits
from genplug.foreign.machine import Reading
from genplug.foreign.networks import facts
from genplug.foreign.tensors import load_tensors

MOST_LEFT_OUT = 50


@dataclass(frozen=True)
class Foreign:
    """What was found in a foreign file.

    `tensors` have the names of the network's state dict; half precision has become float32.
    `format` is `safetensors`, `torch` or `nvlabs-pickle`; `part` is the entry of the file that was
    taken (empty: the file itself) and `prefix` what was removed from its names. `facts` is JSON:
    class, constructor arguments, encoder and data set options of an NVlabs network, and the
    entries that are no tensors (`left_out`).
    """

    tensors: dict[str, Tensor]
    format: str
    part: str
    prefix: str
    facts: dict[str, Any]
    sha256: str

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def metadata(self) -> dict[str, str]:
        """Return where the tensors come from, as text for a safetensors file."""
        origin = {"format": self.format, "part": self.part, "prefix": self.prefix}
        return {**origin, "source_sha256": self.sha256, "facts": json.dumps(self.facts, allow_nan=False)}


def read_foreign(path: Path, part: str | None = None, prefix: str = "") -> Foreign:
    """Read the weights of one network from a file of any known format; nothing in it is run.

    The format is told by the content. `part` names an entry (`ema`, `a.b` for an entry in an
    entry), `prefix` the beginning of the names that are meant; without them the usual ones are
    found. The tensors lie in the mapped file as far as they can.

    Raises:
        WeightsError: the file is damaged, asks for more than data, or is ambiguous.
    """
    path = Path(path)
    kind, value, data = read_values(path)
    found = find(value, part, prefix, Reading(str(path)))
    known = facts(found.network, found.container) if found.network else {}
    left_out = {"left_out": list(found.left_out[:MOST_LEFT_OUT])} if found.left_out else {}
    tensors = load_tensors(found.tensors, str(path), len(data))
    digest = hashlib.sha256(data).hexdigest()
    return Foreign(tensors, kind, found.part, found.prefix, known | left_out, digest)


def convert(
    source: Path,
    out: Path,
    *,
    part: str | None = None,
    prefix: str = "",
    fits: Mapping[str, tuple[int, ...]] | None = None,
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    what: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Foreign:
    """Write the weights in a foreign file as safetensors, whole or not at all.

    `fits` are the names and shapes that the network `what` expects: other weights are refused
    and nothing is written. `adapt` gives published tensors the names and layout of that network.
    `metadata` is added to what the file says about itself.

    Raises:
        WeightsError: the file cannot be read, is refused, or its weights do not fit.
    """
    source, out = Path(source), Path(out)
    _check_target(source, out)
    found = read_foreign(source, part, prefix)
    if adapt is not None:
        found = replace(found, tensors=_adapted(found, adapt, source, what))
    if fits is not None:
        shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
        problems = misfits(shapes, {name: tuple(shape) for name, shape in fits.items()})
        if problems:
            raise WeightsError(f"{source} does not fit {what or 'the network'}: {problems}")
    save_weights(found.tensors, out, {"source": source.name, **found.metadata(), **(metadata or {})})
    return found


def _adapted(
    found: Foreign, adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]], source: Path, what: str
) -> dict[str, Tensor]:
    """Return tensors as their network names them; those of another network are refused."""
    try:
        return adapt(found.tensors)
    except KeyError as error:
        raise WeightsError(f"{source} does not fit {what or 'the network'}: it has no {error}") from None


def _check_target(source: Path, out: Path) -> None:
    """Refuse a place that cannot be written to, and the source itself."""
    if os.path.exists(out) and os.path.exists(source) and out.samefile(source):
        raise WeightsError(f"{out} is the file to convert; give another name for the result")
    folder = next((parent for parent in out.absolute().parents if os.path.exists(parent)), Path("/"))
    if os.path.isdir(out) or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise WeightsError(f"{out} cannot be written; name a file in a folder of yours")
