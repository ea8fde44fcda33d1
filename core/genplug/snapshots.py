"""What a training leaves: snapshots of the weights and of their averages, and the logged curve."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from genplug.checkpoints import load_weights

CURVE = "curve.jsonl"


@dataclass(frozen=True)
class Snapshot:
    """Weights at one step: of the network itself (`raw`) or of a named average."""

    step: int
    average: str
    path: Path

    def weights(self) -> dict[str, Tensor]:
        """Read the weights."""
        return load_weights(self.path)


@dataclass(frozen=True)
class Fit:
    """What training left: snapshots in order of steps, and the logged curve."""

    directory: Path
    snapshots: tuple[Snapshot, ...]

    @property
    def last(self) -> Snapshot:
        """The last snapshot, of an average if there is one."""
        return self.snapshots[-1]

    def curve(self) -> list[dict[str, float]]:
        """Return the logged quantities by step."""
        return read_curve(self.directory / CURVE)


def snapshot_path(directory: Path, step: int, average: str) -> Path:
    """Return the file of one snapshot."""
    return directory / f"step-{step:08d}.{average}.safetensors"


def write_curve(path: Path, curve: Sequence[Mapping[str, float]]) -> None:
    """Write one JSON object per step."""
    partial = path.with_name(f".{path.name}")
    partial.write_text("".join(json.dumps(dict(point)) + "\n" for point in curve), encoding="utf-8")
    partial.replace(path)


def read_curve(path: Path) -> list[dict[str, float]]:
    """Read what `write_curve` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def found(directory: Path, steps: Sequence[int]) -> Iterator[Snapshot]:
    """Yield a finished training's snapshots, raw weights before averages."""
    for step in steps:
        paths = sorted(
            directory.glob(f"step-{step:08d}.*.safetensors"), key=lambda p: (".raw." not in p.name, p.name)
        )
        for path in paths:
            yield Snapshot(
                step, path.name.removeprefix(f"step-{step:08d}.").removesuffix(".safetensors"), path
            )
