"""`genplug evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from genplug_cli import options

if TYPE_CHECKING:
    from genplug.protocols import Score

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
    from genplug import evaluation
    from genplug_cli import terminal

    sets = {**dict(options.assignments(set_)), **({"run.skip_bad": True} if skip_bad else {})}
    scores = evaluation.evaluate(
        real,
        generated,
        train=train,
        evaluators=evaluator or (),
        extractors=extractor or (),
        options=sets,
        log=terminal.log(quiet),
    )
    _show(scores, json_)


def _show(scores: Mapping[str, Score], as_json: bool) -> None:
    from genplug.registry import catalog
    from genplug_cli.scores import set_table
    from genplug_cli.terminal import say, say_json

    plain = {name: dataclasses.asdict(score) for name, score in scores.items()}
    for score in plain.values():
        score["extra"] = {key: value for key, value in score["extra"].items() if key != "plot"}
    say_json(plain) if as_json else say(set_table(plain, catalog().names("extractor"), catalog()))
