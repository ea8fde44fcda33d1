"""Objective `classifier-guidance`: D + s sigma^2 grad ln p(c | x, sigma) (arXiv 2105.05233, 2503.10638)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from genplug.config import Component
from genplug.denoiser import DenoiserGenerator, Labels
from genplug.errors import CapabilityError, DataError
from genplug.protocols import NoiseSpec
from genplug.runtime import Run
from genplug_guidance.classifier import (
    Blueprint,
    ClassPotential,
    ExactPosterior,
    Potential,
    read_classifier,
)
from genplug_guidance.classifier_training import (
    Task,
    check_worth,
    class_verdict,
    data_rows,
    measure,
    sharing,
    split_rows,
    train_classifier,
)
from genplug_guidance.gradient import Unconditioned
from genplug_guidance.gradient_config import ClassifierGuidanceConfig
from genplug_guidance.gradient_objective import GradientObjective, blueprint_facts, network_of

EXACT, TRAIN = "exact", "train"


class ClassifierGuidance(GradientObjective):
    """Push a branch without labels, or the class-conditional model, towards the label."""

    config: ClassifierGuidanceConfig

    def prepare(self, generator: Any, run: Run) -> tuple[Potential, dict[str, Any]]:
        """Return ln p(c | x, sigma): exact, of a given classifier, or of one trained here."""
        classes = num_classes(generator, run)
        if self.config.classifier == EXACT:
            assert run.resolved is not None
            facts = {"classes": classes, "data": run.resolved.dataset.record()}
            return exact_posterior(run.data, generator.x_shape, run.resolved.dataset.name), facts
        blueprint = Blueprint(self.config.network, tuple(generator.x_shape), classes)
        facts = {"classes": classes, "blueprint": blueprint_facts(blueprint)}
        noise: NoiseSpec = generator.noise
        run = sharing(run, generator, self.config)
        if self.config.classifier == TRAIN:
            task = class_task(run, generator, self.config.held_out)
            module = train_classifier(run, blueprint, task, self.config, noise)
        else:
            module = read_classifier(Path(self.config.classifier), blueprint, run.device)
            if run.dataset("train").labels is None:
                run.log.warn("the data have no labels: the given classifier's accuracy is not measured")
                return ClassPotential(module), facts
            task = class_task(run, generator, self.config.held_out)
        check_worth(run, measure(run, module, task, noise, self.config.bins), self.config.force)
        return ClassPotential(module), facts

    def potential(self, facts: Mapping[str, Any], directory: Path, run: Run) -> Potential:
        """Return what was saved; the exact posterior is made of the data set again."""
        if "data" not in facts:
            return ClassPotential(network_of(facts, directory, run))
        record = {key: value for key, value in facts["data"].items() if key not in ("preset", "weights")}
        data = run.component("dataset", Component.model_validate(record))
        return ExactPosterior(data.log_density)

    def ready(self, generator: DenoiserGenerator, facts: Mapping[str, Any]) -> DenoiserGenerator:
        """Return the branch that is guided; a generator without labels gets those of the classifier."""
        if self.config.on == "unconditional":
            generator = generator.replace(denoiser=Unconditioned(generator.denoiser))
        if generator.conditioning is None:
            generator = generator.replace(conditioning=Labels(facts["classes"]))
        return generator


def num_classes(generator: Any, run: Run) -> int:
    """Return how many classes there are: the generator's labels, or else the data's."""
    conditioning = getattr(generator, "conditioning", None)
    if isinstance(conditioning, Labels):
        return conditioning.num_classes
    data = run.data
    if data.num_classes is None or data.num_classes < 2:
        raise DataError(
            "classifier-guidance needs data with at least two classes; "
            f"{run.dataset('train').name} has {data.num_classes or 'no labels'}"
        )
    return int(data.num_classes)


def exact_posterior(data: Any, x_shape: tuple[int, ...], name: str) -> ExactPosterior:
    """Return the exact posterior of data whose density is known."""
    log_density = getattr(data, "log_density", None)
    if log_density is None:
        raise CapabilityError(
            f"objective.classifier = exact needs data with a known density, which {name} has not; "
            "use classifier = train"
        )
    if tuple(x_shape) != tuple(data.split("train").shape):
        raise CapabilityError(
            f"objective.classifier = exact needs a generator whose x are the data's points; it has {x_shape}"
        )
    return ExactPosterior(log_density)


def class_task(run: Run, generator: Any, share: float) -> Task:
    """Return the task of telling the classes of real data apart."""
    rows = data_rows(run, generator, labelled=True)
    train, held_out = split_rows(rows, share, run.seed)
    assert held_out.labels is not None
    counts_K = torch.bincount(held_out.labels)
    key = {"data": rows.samples.fingerprint, "held_out": share}
    chance = float(counts_K.max() / counts_K.sum())
    return Task({"real": train}, {"real": held_out}, class_verdict, chance, key)
