"""`genplug evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genplug_cli import options, workers

if TYPE_CHECKING:
    from genplug.evaluation import Evaluation

Real = Annotated[
    str | None, typer.Argument(metavar="REAL", help="Real samples, or a file of their statistics.")
]
Generated = Annotated[str | None, typer.Argument(metavar="GENERATED", help="Generated samples.")]
Train = Annotated[
    str | None,
    typer.Option("--train", metavar="SET", help="What the generator was trained on; REAL was held out."),
]
Reference = Annotated[
    str | None,
    typer.Option("--reference", metavar="SET", help="More real samples, held out; REAL was trained on."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other option, as run.batch_size=64."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out unreadable images, and count them.")]
MixedSizes = Annotated[
    bool, typer.Option("--mixed-sizes", help="Take images of different sizes; extractors resize each.")
]
Csv = Annotated[bool, typer.Option("--csv", help="Print the scores as CSV on stdout.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page with tables, plots and samples.")
]
List = Annotated[bool, typer.Option("--list", help="Show evaluators and extractors, and what they need.")]


def evaluate(
    ctx: typer.Context,
    real: Real = None,
    generated: Generated = None,
    train: Train = None,
    reference: Reference = None,
    evaluator: options.Evaluators = None,
    extractor: options.Extractors = None,
    set_: Sets = None,
    skip_bad: SkipBad = False,
    mixed_sizes: MixedSizes = False,
    json_: options.Json = False,
    csv_: Csv = False,
    html: Html = None,
    list_: List = False,
    quiet: options.Quiet = False,
) -> None:
    """Judge generated samples against real ones.

    \b
    genplug evaluate digits:held-out runs/x:improved --train digits:train
    genplug evaluate real/ generated.npz --evaluator frechet --extractor inception-fid
    genplug evaluate --list

    A sample set is a folder of images (labels from subfolders), a dataset .zip, an .npz or .npy, a
    data set with its split (digits:train), or samples of a run (runs/x:base, runs/x:improved).
    An extractor is NAME, NAME.PRESET or NAME:ARGUMENT, with @OUTPUT for another of its outputs. Without
    one, the first of inception-fid, efficientnet-lite0 and pixels whose weights are here.
    """
    if list_:
        _list(json_)
        return
    _check(real, generated, json_ and csv_, html)
    from genplug import evaluation
    from genplug_cli import terminal

    flags = {"run.skip_bad": skip_bad, "run.mixed_sizes": mixed_sizes}
    sets = {**dict(options.assignments(set_)), **{key: True for key, given in flags.items() if given}}
    if (processes := _processes(sets)) > 1 and not workers.launched():
        from genplug_cli.launch import launch

        raise typer.Exit(launch(processes, ctx.find_root().obj))
    assert real is not None
    assert generated is not None
    scores = evaluation.evaluate(
        real,
        generated,
        train=train,
        reference=reference,
        evaluators=evaluator or (),
        extractors=extractor or (),
        options=sets,
        log=terminal.log(quiet),
    )
    _show(scores, json_, csv_)
    if html is not None:
        _write_page(scores, html)


def _processes(sets: dict[str, Any]) -> int:
    """Return how many processes are asked for (`--set runtime.processes=N`)."""
    from genplug.config import nest, validate
    from genplug.settings import RuntimeSettings

    runtime = nest({key: value for key, value in sets.items() if key.startswith("runtime.")})
    return validate(RuntimeSettings, runtime.get("runtime", {}), "runtime").processes


def _check(real: str | None, generated: str | None, two_forms: bool, html: Path | None) -> None:
    """Refuse a command line that says too little or too much, before anything is imported."""
    import os

    from genplug.errors import ConfigError

    if real is None or generated is None:
        raise ConfigError(
            "name two sample sets: genplug evaluate REAL GENERATED (--list shows what can be judged)"
        )
    if two_forms:
        raise ConfigError("--json and --csv both print on stdout; choose one")
    if html is not None and (html.suffix != ".html" or not os.path.isdir(html.absolute().parent)):
        raise ConfigError(f"--html {str(html)!r}: name a file that ends in .html, in a folder that is there")


def _show(scores: Evaluation, as_json: bool, as_csv: bool) -> None:
    from genplug.blocks import plain_score
    from genplug.registry import catalog
    from genplug_cli.scores import set_csv, set_table
    from genplug_cli.terminal import say, say_json

    plain = {name: plain_score(score) for name, score in scores.items()}
    if as_json:
        say_json({**plain, "run": scores.facts})
    elif as_csv:
        say(set_csv(plain, catalog()))
    else:
        say(f"{set_table(plain, catalog())}{_notes(scores)}")


def _notes(scores: Evaluation) -> str:
    """Say which features were not extracted anew."""
    cached = [f"{one['extractor']} of {one['samples']}" for one in scores.facts["features"] if one["cached"]]
    return f"\n\ncached features: {', '.join(cached)}" if cached else ""


def _write_page(scores: Evaluation, path: Path) -> None:
    from genplug.evalpage import write_page

    if workers.is_main():
        write_page(scores, path)


def _list(as_json: bool) -> None:
    from genplug_cli.judges import judges, judges_text
    from genplug_cli.terminal import say, say_json

    found = judges()
    say_json(found) if as_json else say(judges_text(found))
