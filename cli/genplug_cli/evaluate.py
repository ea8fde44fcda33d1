"""`genplug evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genplug_cli import options

if TYPE_CHECKING:
    from genplug.protocols import EvalInputs, Score
    from genplug.runtime import Run
    from genplug.settings import RunSettings

_SECTIONS = ("evaluator", "run")
Real = Annotated[str, typer.Argument(metavar="REAL", help="Real samples that no training saw.")]
Generated = Annotated[str, typer.Argument(metavar="GENERATED", help="Generated samples.")]
Train = Annotated[
    str | None,
    typer.Option("--train", metavar="SET", help="What the generator was trained on."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other option, as run.batch_size=64."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out unreadable images, and count them.")]


def evaluate(
    real: Real,
    generated: Generated,
    train: Train = None,
    evaluator: options.Evaluators = None,
    extractor: options.Extractors = None,
    set_: Sets = None,
    skip_bad: SkipBad = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Judge generated samples against real ones.

    \b
    genplug evaluate digits:held-out runs/x:improved --train digits:train
    genplug evaluate real/ generated.npz --evaluator frechet --extractor pixels

    A sample set is a folder of images (labels from subfolders), a dataset .zip, an .npz or .npy, a
    data set with its split (digits:train), or samples of a run (runs/x:base, runs/x:improved).
    """
    from genplug.registry import catalog

    sets = _sections(options.assignments(set_))
    for kind, names in (("evaluator", evaluator), ("extractor", extractor)):
        for name in names or ():
            catalog().get(kind, name)
    scores, extractors = _judge((real, generated, train), evaluator, extractor, sets, skip_bad, quiet)
    _show(scores, extractors, json_)


def _sections(sets: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    """Return `--set` by section; only evaluators and the run's settings matter here."""
    from genplug.config import nest
    from genplug.errors import ConfigError, nearest

    values = nest(dict(sets))
    for section in values:
        if section not in _SECTIONS:
            hint = nearest(section, _SECTIONS) or " (known: evaluator.NAME.KEY, run.KEY)"
            raise ConfigError(f"unknown section {section!r} (from --set){hint}")
    return values


def _judge(
    references: tuple[str, str, str | None],
    evaluators: Sequence[str] | None,
    extractors: Sequence[str] | None,
    sets: Mapping[str, Any],
    skip_bad: bool,
    quiet: bool,
) -> tuple[dict[str, Score], list[str]]:
    """Open the sets, choose the judges and let them judge."""
    from genplug import evaluation
    from genplug.runtime import Run, make_accelerator
    from genplug.settings import RuntimeSettings
    from genplug_cli import terminal

    settings = _settings(sets, skip_bad)
    run = Run(make_accelerator(settings, RuntimeSettings()), settings, log=terminal.log(quiet))
    inputs = _open(run, references)
    names = list(evaluators or _evaluators(run, inputs))
    _check_options(sets.get("evaluator", {}), names)
    chosen = list(extractors or _extractors(run, inputs))
    scores = evaluation.evaluate(
        inputs.held_out,
        inputs.samples,
        train=inputs.train,
        evaluators=names,
        extractors=chosen,
        options=sets.get("evaluator"),
        settings=settings,
        log=run.log,
    )
    return scores, chosen


def _settings(sets: Mapping[str, Any], skip_bad: bool) -> RunSettings:
    from genplug.config import validate
    from genplug.settings import RunSettings

    return validate(RunSettings, {**sets.get("run", {}), "skip_bad": skip_bad}, "run")


def _open(run: Run, references: tuple[str, str, str | None]) -> EvalInputs:
    """Open real, generated and training samples; those that were skipped are warned about."""
    from genplug.evaluation import check_alike
    from genplug.opening import open_samples
    from genplug.protocols import EvalInputs

    sets = [open_samples(run, name, run.settings.skip_bad) if name else None for name in references]
    for samples in sets:
        if skipped := getattr(samples, "skipped", 0):
            run.log.warn(f"{samples.name}: left out {skipped} images that cannot be read")  # type: ignore[union-attr]
    assert sets[1] is not None
    inputs = EvalInputs(held_out=sets[0], samples=sets[1], train=sets[2])
    check_alike(inputs)
    return inputs


def _evaluators(run: Run, inputs: EvalInputs) -> list[str]:
    """Return the registry's evaluators of a run as far as their inputs are there, else all that fit."""
    from genplug.errors import CapabilityError
    from genplug.evaluation import fitting

    fit = fitting(run.catalog, inputs)
    if not fit:
        raise CapabilityError("no installed evaluator fits these samples")
    return [name for name in _defaults(run, "evaluators") if name in fit] or fit


def _extractors(run: Run, inputs: EvalInputs) -> list[str]:
    """Return the registry's extractors of a run that take such samples, else all installed ones that do."""
    modality = "image" if len(inputs.samples.shape) == 3 else "points"
    entries = run.catalog.entries["extractor"]
    fit = [name for name in sorted(entries) if entries[name].spec.modality in ("any", modality)]
    return [name for name in _defaults(run, "extractors") if name in fit] or fit


def _defaults(run: Run, key: str) -> list[str]:
    from genplug.presets import registry

    return list(registry(run.catalog).defaults.get("run", {}).get(key, ()))


def _check_options(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse options of evaluators that do not judge."""
    from genplug.errors import ConfigError, nearest

    for name in given:
        if name not in names:
            hint = nearest(name, names) or f" (they are: {', '.join(names)})"
            raise ConfigError(f"--set evaluator.{name}: {name!r} is none of the evaluators here{hint}")


def _show(scores: Mapping[str, Score], extractors: Sequence[str], as_json: bool) -> None:
    from genplug.registry import catalog
    from genplug_cli.scores import set_table
    from genplug_cli.terminal import say, say_json

    plain = {name: dataclasses.asdict(score) for name, score in scores.items()}
    for score in plain.values():
        score["extra"] = {key: value for key, value in score["extra"].items() if key != "plot"}
    say_json(plain) if as_json else say(set_table(plain, extractors, catalog()))
