"""Statistics of features without the samples: mean and covariance, as published for Frechet distances.

| file | holds |
|---|---|
| `.npz` of pytorch-fid, clean-fid | `mu`, `sigma`; it does not say of which extractor |
| `.npz` of ADM (reference batch) | `mu`, `sigma`, `mu_s`, `sigma_s` (spatial), beside images `arr_0` |
| `.pkl` of EDM2 (`dataset-refs`) | `fid` and `fd_dinov2`, each with `mu`, `sigma` |
| `.pt` of torch-fidelity | `mu`, `sigma` |
| `.npz` of `write_statistics` | `mu`, `sigma`, and JSON `about` with count, extractor and fingerprint |

Pickles are read as inert values: nothing in a file is run.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genplug.arrays import read_numbers
from genplug.errors import DataError, WeightsError

SPATIAL = "spatial"
ADM_CHANNELS = 7  # of the map that ADM takes for its sFID: the first ones of `mixed_6/conv`


@dataclass(frozen=True)
class Moments:
    """Mean D and covariance DD (divisor n - 1), float64, of n feature rows; n is None if not known.

    `score` is the published name of the distance that they are for (`fid`), `reference` the extractor by
    genplug's name, `fingerprint` its digest; each empty if the file does not say.
    """

    mu_D: Tensor
    cov_DD: Tensor
    n: int | None = None
    score: str = ""
    reference: str = ""
    output: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Statistics:
    """All that one file holds. `known_as` and `fingerprint_of` tell what an extractor is called and is."""

    name: str
    entries: tuple[Moments, ...]
    known_as: Callable[[str], str] = lambda reference: ""
    fingerprint_of: Callable[[str], str] = lambda reference: ""
    warn: Callable[[str], None] = field(default=lambda text: None)

    def find(self, reference: str, output: str | None = None) -> Moments | None:
        """Return the moments of an extractor's features, or None.

        Entries that say what they are of must agree; one that does not say is taken for any extractor.
        """
        head, _, named = reference.partition("@")
        wanted = output or named
        for entry in self.entries:
            if entry.output == wanted and self._is_of(entry, head):
                return entry
        return None

    def gaussian(self, reference: str, output: str | None = None) -> tuple[Tensor, Tensor, int | None]:
        """Return mean D, covariance DD (float64) and count of an extractor's features.

        Raises:
            DataError: the file has none of this extractor and output.
        """
        found = self.find(reference, output)
        head = reference.partition("@")[0]
        if found is None and not output and any(entry.reference == head for entry in self.entries):
            raise DataError(
                f"{self.name} is of {head} with another output, weights or options; make it again"
            )
        if found is None:
            held = ", ".join(self._shown(entry) for entry in self.entries)
            raise DataError(
                f"{self.name} has statistics of {held}, not of {output or 'the features'} of {reference}"
            )
        if not (found.score or found.reference):
            self.warn(f"{self.name} does not say which extractor made it; taken as {reference}'s")
        return found.mu_D, found.cov_DD, found.n

    def _is_of(self, entry: Moments, head: str) -> bool:
        if entry.fingerprint:
            return entry.fingerprint == self.fingerprint_of(head)
        if entry.score:
            return entry.score == self.known_as(head)
        return entry.reference in ("", head)

    @staticmethod
    def _shown(entry: Moments) -> str:
        name = entry.score or entry.reference or f"an unnamed extractor ({len(entry.mu_D)} features)"
        return f"{name} ({entry.output})" if entry.output else name


def read_statistics(path: Path) -> tuple[Moments, ...]:
    """Return what statistics a file holds; none if it holds other things.

    Raises:
        DataError: the file is damaged, or its statistics are.
    """
    if path.suffix == ".npz":
        return _of_arrays(path, read_numbers(path, ("mu", "sigma", "mu_s", "sigma_s", "about")))
    if path.suffix in (".pkl", ".pt", ".pth"):
        return _of_pickle(path)
    return ()


def write_statistics(path: Path, moments: Moments) -> None:
    """Write moments as `.npz`, whole or not at all; pytorch-fid and clean-fid read it too."""
    keys = ("n", "reference", "output", "fingerprint")
    about = json.dumps({key: getattr(moments, key) for key in keys}).encode()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.savez(
                file,
                mu=moments.mu_D.numpy(),
                sigma=moments.cov_DD.numpy(),
                about=np.frombuffer(about, np.uint8),
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _of_arrays(path: Path, arrays: Mapping[str, Any]) -> tuple[Moments, ...]:
    """Return the moments in named arrays: of genplug, of ADM (spatial ones too), or of unknown origin."""
    if not {"mu", "sigma"} <= arrays.keys():
        return ()
    about = _about(path, arrays.get("about"))
    if "mu_s" not in arrays or "sigma_s" not in arrays:
        return (_moments(path, arrays["mu"], arrays["sigma"], **about),)
    spatial = _channels_first(_moments(path, arrays["mu_s"], arrays["sigma_s"], score="fid", output=SPATIAL))
    return _moments(path, arrays["mu"], arrays["sigma"], score="fid"), spatial


def _channels_first(moments: Moments) -> Moments:
    """Return ADM's spatial moments, whose features are height, width, channel, as extractors give them."""
    side = math.isqrt(len(moments.mu_D) // ADM_CHANNELS)
    if ADM_CHANNELS * side**2 != len(moments.mu_D):
        return moments
    order = torch.arange(len(moments.mu_D)).reshape(side, side, ADM_CHANNELS).permute(2, 0, 1).flatten()
    return replace(moments, mu_D=moments.mu_D[order], cov_DD=moments.cov_DD[order][:, order])


def _about(path: Path, stored: Any) -> dict[str, Any]:
    if stored is None:
        return {}
    try:
        said = json.loads(np.asarray(stored, np.uint8).tobytes())
        texts = {key: str(said[key]) for key in ("reference", "output", "fingerprint")}
        return {"n": None if said["n"] is None else int(said["n"]), **texts}
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: what it says about its statistics is damaged") from None


def _of_pickle(path: Path) -> tuple[Moments, ...]:
    """Return the moments in a pickle or torch file: EDM2's by metric, or one of unknown origin."""
    from genplug.foreign.arrays import read_arrays

    try:
        held = read_arrays(path)
    except WeightsError as error:
        raise DataError(str(error)) from None
    if {"mu", "sigma"} <= held.keys():
        return (_moments(path, held["mu"], held["sigma"]),)
    names = [key.removesuffix(".mu") for key in held if key.endswith(".mu")]
    return tuple(
        _moments(path, held[f"{name}.mu"], held[f"{name}.sigma"], score=name.replace("_", "-"))
        for name in names
        if f"{name}.sigma" in held
    )


def _moments(path: Path, mu: Any, sigma: Any, **about: Any) -> Moments:
    """Check mean and covariance."""
    mu_D, cov_DD = (torch.as_tensor(np.asarray(value, dtype=np.float64)) for value in (mu, sigma))
    if mu_D.ndim != 1 or len(mu_D) == 0 or cov_DD.shape != (len(mu_D), len(mu_D)):
        raise DataError(
            f"{path}: mean of shape {tuple(mu_D.shape)} and covariance of {tuple(cov_DD.shape)} do not fit"
        )
    if not bool(mu_D.isfinite().all() and cov_DD.isfinite().all()):
        raise DataError(f"{path}: its statistics contain NaN or infinity; compute them again")
    scale = float(cov_DD.abs().max())
    if (
        float((cov_DD - cov_DD.T).abs().max()) > 1e-6 * scale
        or float(cov_DD.diagonal().min()) < -1e-6 * scale
    ):
        raise DataError(f"{path}: sigma is no covariance (not symmetric, or a negative variance)")
    return Moments(mu_D, (cov_DD + cov_DD.T) / 2, **about)
