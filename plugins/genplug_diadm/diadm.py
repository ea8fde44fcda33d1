"""DiADM (arXiv 2411.16171, section 4): train a network from scratch on images and their own features."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from genplug.checkpoints import load_weights, read_metadata, save_weights
from genplug.condition import Condition
from genplug.errors import CapabilityError, WeightsError
from genplug.protocols import Policy
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.training import WEIGHTS, EncodedRows, real_rows, training_key, with_weights
from genplug_ddo.pretrain import pretraining_step
from genplug_diadm.bank import Bank, make_bank
from genplug_diadm.config import DiadmConfig, DrawOptions
from genplug_diadm.draws import FeatureDraws, make_draws

DRAWS = "features.safetensors"


@dataclass(frozen=True)
class NoFeatures:
    """The conditions of the control: none, of the width that its network was made for."""

    width: int

    def __call__(self, seeds_N: Tensor, policy: Policy = "balanced") -> Condition:
        """Return as many absent conditions."""
        return Condition(count=len(seeds_N))


class Diadm:
    """Train the generator's architecture anew, conditioned on features of the training images."""

    def __init__(self, config: DiadmConfig) -> None:
        self.config = config

    def apply(self, generator: Any, run: Run) -> Any:
        """Return the feature-conditioned generator."""
        bank = make_bank(run, self.config.extractor, self.config.components)
        draws = make_draws(run, bank, self.config)
        made = conditioned(generator, draws, bank.width, run.seed)
        key = {"reference": self.config.extractor, "components": self.config.components}
        key |= {"extractor": run.extractor(self.config.extractor).fingerprint}
        return self._trained(made, run, lambda rows: Condition(features_ND=bank.features_NC[rows]), key)

    def control(self, generator: Any, run: Run) -> Any:
        """Return the same network trained and sampled without features, the zero vector, for as long.

        The extractor's one pass over the training images is not counted.
        """
        width = make_bank(run, self.config.extractor, self.config.components).width
        made = conditioned(generator, NoFeatures(width), width, run.seed).with_unconditional()
        return self._trained(made, run, lambda rows: Condition(count=len(rows)), {"width": width})

    def save(self, generator: Any, directory: Path) -> None:
        """Write the weights and what says which features samples get."""
        save_weights(generator.state_dict(), directory / WEIGHTS)
        save_conditions(generator.conditioning, directory / DRAWS)

    def restore(self, base: Any, directory: Path, run: Run) -> Any:
        """Return the generator that was saved."""
        conditions, width = load_conditions(directory / DRAWS)
        made = conditioned(base, conditions, width, run.seed)
        if isinstance(conditions, NoFeatures):
            made = made.with_unconditional()
        return with_weights(made, load_weights(directory / WEIGHTS))

    def _trained(
        self, made: Any, run: Run, condition: Callable[[Tensor], Condition], key: dict[str, Any]
    ) -> Any:
        """Return a generator after plain training with a condition for each training row."""
        rows = Conditioned(real_rows(run, made), condition)
        whole_key = {**training_key(run, made), **key}
        fit = run.fit(
            "fit",
            made.clone(),
            pretraining_step,
            {"real": rows},
            self.config.train,
            key=whole_key,
            dropout=True,
        )
        return with_weights(made, fit.last.weights())


class Conditioned:
    """Training rows with a condition for each row number in the place of labels."""

    def __init__(self, rows: EncodedRows, condition: Callable[[Tensor], Condition]) -> None:
        self.rows, self.condition = rows, condition
        self.labels: Tensor | None = rows.samples.labels  # for `train.balance`

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Tensor, draws: NoiseSource) -> tuple[Tensor, Condition | None]:
        """Return x and conditions of rows."""
        x, _ = self.rows.batch(rows, draws)
        return x, self.condition(rows)


def conditioned(generator: Any, conditioning: Any, width: int, seed: int) -> Any:
    """Return the generator's architecture with random weights, and the conditions that its samples get."""
    if not hasattr(generator, "replace"):
        raise CapabilityError(
            f"diadm sets which features a sample gets; {type(generator).__name__} lets nobody: "
            "make it a DenoiserGenerator"
        )
    return generator.for_features(width, seed).replace(conditioning=conditioning)


def save_conditions(conditions: FeatureDraws | NoFeatures, path: Path) -> None:
    """Write the features that samples get, with the options of their draw."""
    if isinstance(conditions, NoFeatures):
        save_weights({}, path, {"width": str(conditions.width)})
        return
    bank, options = conditions.bank, conditions.options
    about = {"width": str(bank.width), "extractor": bank.extractor}
    about["options"] = json.dumps({name: getattr(options, name) for name in DrawOptions.model_fields})
    tensors = {f"bank.{name}": value for name, value in bank.tensors().items()}
    save_weights(tensors | {f"draw.{name}": value for name, value in conditions.tensors.items()}, path, about)


def load_conditions(path: Path) -> tuple[FeatureDraws | NoFeatures, int]:
    """Read what `save_conditions` wrote; return it and the width of a condition."""
    tensors, about = load_weights(path), read_metadata(path)
    try:
        width = int(about["width"])
        if "options" not in about:
            return NoFeatures(width), width
        options = DrawOptions.model_validate_json(about["options"])
        bank = Bank.of_tensors(_part(tensors, "bank."), about["extractor"])
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path} does not hold the features of a diadm generator ({error})") from None
    return FeatureDraws(bank, options, _part(tensors, "draw.")), width


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
