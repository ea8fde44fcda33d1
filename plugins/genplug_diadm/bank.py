"""The features of training images that DiADM is trained and sampled with, and their principal components.

Legend: N images, D feature width, C components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genplug.checkpoints import load_weights, save_weights
from genplug.errors import DataError, NonFiniteError
from genplug.runtime import Run

FEATURES, CENTRE, BASIS = "features", "centre", "basis"


@dataclass(frozen=True)
class Bank:
    """Features of the training images in their order, and how features of others become like them."""

    features_NC: Tensor
    extractor: str
    centre_D: Tensor | None = None
    basis_DC: Tensor | None = None

    @property
    def width(self) -> int:
        """How wide a condition is."""
        return self.features_NC.shape[1]

    def of(self, run: Run, split: str) -> Tensor:
        """Return the features of another split of the run's data, NC."""
        return self.projected(run.features(run.dataset(split), self.extractor))

    def projected(self, feat_ND: Tensor) -> Tensor:
        """Return features on the principal components, if only those are used."""
        if self.centre_D is None or self.basis_DC is None:
            return feat_ND
        return (feat_ND - self.centre_D) @ self.basis_DC

    def tensors(self) -> dict[str, Tensor]:
        """Return what a file holds of it."""
        found = {FEATURES: self.features_NC, CENTRE: self.centre_D, BASIS: self.basis_DC}
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor], extractor: str) -> Bank:
        """Return the bank that a file holds."""
        return Bank(tensors[FEATURES], extractor, tensors.get(CENTRE), tensors.get(BASIS))


def make_bank(run: Run, extractor: str, components: int) -> Bank:
    """Return the features of the run's training images, made once and kept as a stage."""
    data = run.dataset("train")
    key = {"data": data.fingerprint, "extractor": run.extractor(extractor).fingerprint}

    def work(partial: Path) -> None:
        bank = fitted(run.features(data, extractor), extractor, components)
        if run.is_main:
            save_weights(bank.tensors(), partial / "bank.safetensors")

    directory = run.stage("features", {**key, "reference": extractor, "components": components}, work)
    return Bank.of_tensors(load_weights(directory / "bank.safetensors"), extractor)


def fitted(feat_ND: Tensor, extractor: str, components: int) -> Bank:
    """Return a bank of features, reduced to principal components if any are asked for.

    The sign of a component is that of its largest entry, so that it does not depend on the solver.
    """
    if not bool(feat_ND.isfinite().all()):
        raise NonFiniteError(f"features of {extractor} are not finite; name another extractor")
    if not components:
        return Bank(feat_ND, extractor)
    N, D = feat_ND.shape
    if components > min(N - 1, D):
        raise DataError(
            f"{N} images with {D} features of {extractor} have {min(N - 1, D)} principal components, not "
            f"{components}; lower objective.components"
        )
    centre_D = feat_ND.double().mean(0)
    centred_ND = feat_ND.double() - centre_D
    _, vectors_DD = torch.linalg.eigh(centred_ND.T @ centred_ND)
    basis_DC = vectors_DD.flip(1)[:, :components]
    largest_C = basis_DC.gather(0, basis_DC.abs().argmax(0, keepdim=True))
    basis_DC = (basis_DC * largest_C.sign()).float()
    bank = Bank(feat_ND, extractor, centre_D.float(), basis_DC)
    return Bank(bank.projected(feat_ND), extractor, bank.centre_D, bank.basis_DC)
