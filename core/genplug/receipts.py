"""What is remembered beside fetched weights, in `NAME.json`: where they came from, under which licence."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from genplug.errors import WeightsError
from genplug.specs import Preset
from genplug.stages import write_json


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One fetch. `sha256` and `bytes` are of the published file, `weights_*` of the safetensors made of it.

    `verified` says that the registry knew the sha256; otherwise it is the one that was first seen.
    """

    preset: str
    address: str
    licence: str | None
    sha256: str
    bytes: int
    verified: bool
    weights_sha256: str
    weights_bytes: int
    when: str

    @property
    def trust(self) -> str:
        """Return the sha256 and what it is worth."""
        worth = "as the registry says" if self.verified else f"unverified: first seen {self.when[:10]}"
        return f"sha256 {self.sha256} ({worth})"


def disagreement(receipt: Receipt, preset: Preset) -> str:
    """Return why fetched weights are not what the registry says now; empty if they are."""
    if receipt.address != preset.address:
        return f"was fetched from {receipt.address}, the preset says {preset.address}"
    if preset.sha256 is not None and receipt.sha256 != preset.sha256:
        return f"was made of a file with sha256 {receipt.sha256}, the preset says {preset.sha256}"
    return ""


def receipt_path(weights: Path) -> Path:
    """Return where the receipt of a weights file is."""
    return weights.with_suffix(".json")


def read_receipt(weights: Path) -> Receipt | None:
    """Return the receipt of a weights file; None if it was not fetched."""
    path = receipt_path(weights)
    try:
        return Receipt(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        raise WeightsError(f"{path} is no receipt of a fetch; remove it and fetch again") from None


def write_receipt(weights: Path, receipt: Receipt) -> None:
    """Write the receipt of a weights file: whole or not at all."""
    write_json(receipt_path(weights), dataclasses.asdict(receipt))
