"""`genplug irs`: the class-removal experiment, and the threshold of rejection. Heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

irs = typer.Typer(
    help="Image Retrieval Score: experiments and thresholds.", no_args_is_help=True, rich_markup_mode=None
)

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="Labelled data set, folder or file.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results go.")]
Extractors = Annotated[
    list[str] | None, typer.Option("--extractor", metavar="NAME", help="Feature extractor; repeatable.")
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Random splits.")]
TrainParts = Annotated[
    int, typer.Option("--train-parts", min=1, help="Training images for each test image; the paper has 5.")
]
Error = Annotated[
    float, typer.Option("--error", min=1e-9, max=0.499, help="Error probability of each bound.")
]
Train = Annotated[int, typer.Option("--train", min=1, help="Training images, N.")]
Samples = Annotated[int, typer.Option("--samples", min=1, help="Samples drawn at most, n.")]
Diversity = Annotated[
    float, typer.Option("--diversity", min=1e-9, max=1.0, help="Share of the training images to be reached.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


@irs.command("class-removal")
def class_removal(
    dataset: Dataset = "digits",
    out: Out = Path("class-removal"),
    extractor: Extractors = None,
    seeds: Seeds = 20,
    train_parts: TrainParts = 1,
    error: Error = 0.05,
    json_: Json = False,
) -> None:
    """Remove classes from real images and see which score follows.

    \b
    genplug irs class-removal digits --out class-removal

    Writes results.json, an SVG per extractor and index.html into DIR.
    """
    from genplug.runtime import Run, make_accelerator
    from genplug.settings import RunSettings, RuntimeSettings
    from genplug_cli import terminal
    from genplug_irs import class_removal as experiment
    from genplug_irs.pages import write_page

    _make_folder(out)
    settings = RunSettings()
    run = Run(make_accelerator(settings, RuntimeSettings()), settings, log=terminal.log())
    found = experiment.class_removal(run, dataset, extractor or ["pixels"], seeds, train_parts, error)
    if run.is_main:
        write_page(out, found)
    if json_:
        terminal.say_json(
            {k: {n: v for n, v in f.items() if n != "rows"} for k, f in found["extractors"].items()}
        )
        return
    for name, one in found["extractors"].items():
        terminal.say(terminal.table(_measure_rows(name, one)))
        terminal.say()
    terminal.say(f"{out}/index.html")


def _make_folder(out: Path) -> None:
    """Make the folder before the work, so that none is lost."""
    from genplug.errors import DataError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"--out {out}: cannot be made ({error.strerror or error}); name a folder of yours"
        ) from None


def _measure_rows(extractor: str, found: dict[str, Any]) -> Sequence[Sequence[str]]:
    from genplug_irs.class_removal import MEASURES

    rows = [[extractor, "correlation", "half way", "farthest", "all kept"]]
    for key, one in found["measures"].items():
        numbers = [one[name] for name in ("correlation", "half_way", "farthest", "at_all")]
        rows.append([MEASURES[key], *(f"{value:.3f}" for value in numbers)])
    return rows


@irs.command("threshold")
def threshold(
    train: Train, samples: Samples, diversity: Diversity, error: Error = 0.05, json_: Json = False
) -> None:
    """Print how many duplicates reject a generator.

    \b
    genplug irs threshold --train 1281166 --samples 50000 --diversity 0.8

    Of SAMPLES samples of a generator that reaches the share DIVERSITY of the training images, fewer than
    k_min distinct images are retrieved with a probability of at most ERROR.
    """
    from genplug_cli import terminal
    from genplug_irs.thresholds import threshold_facts, threshold_lines

    facts = threshold_facts(train, samples, diversity, error)
    if json_:
        terminal.say_json(facts)
        return
    terminal.say("\n".join(threshold_lines(facts)))
