"""`genplug sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genplug_cli import options

_TOP = 2**60  # seeds above belong to other purposes (`genplug.random.seed_range`)
Reference = Annotated[
    str, typer.Argument(metavar="G", help="Generator, preset, or result of a run (runs/x:improved).")
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder, .npz or .zip.")]
Number = Annotated[int | None, typer.Option("-n", "--number", min=1, metavar="N", help="How many samples.")]
Seeds = Annotated[
    str, typer.Option("--seeds", metavar="A[:B]", help="First seed, or first and one after the last.")
]
Classes = Annotated[str, typer.Option("--classes", metavar="balanced|random", help="How seeds get labels.")]
Batch = Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Samples per batch.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Option, as generator.sampler.steps=32."),
]


def sample(
    reference: Reference,
    out: Out,
    number: Number = None,
    seeds: Seeds = "0",
    classes: Classes = "balanced",
    batch: Batch = 64,
    set_: Sets = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw samples: a folder of PNGs, an .npz in ADM's layout, or a dataset .zip.

    \b
    genplug sample edm2 -o images/ -n 64
    genplug sample runs/x:improved -o x.npz --seeds 0:50000
    genplug sample edm2 -o few.zip -n 8 --set generator.sampler.steps=64

    Sample i comes from seed A+i alone, whatever the batch size; a manifest records seeds and labels.
    The same command continues where it stopped.
    """
    from genplug.errors import ConfigError, DataError, nearest
    from genplug_cli.drawing import Order, draw

    if classes not in ("balanced", "random"):
        hint = nearest(classes, ("balanced", "random"))
        raise ConfigError(f"--classes {classes!r}: expected balanced or random{hint}")
    if out.exists():
        raise DataError(f"{out} exists; name another place")
    first, count = seed_span(seeds, number)
    values = _generator_values(set_)
    _show(draw(Order(reference, out, first, count, classes, batch, values), quiet), json_)


def seed_span(text: str, number: int | None) -> tuple[int, int]:
    """Return first seed and count from `--seeds A`, or `A:B` without B, and `-n`."""
    from genplug.errors import ConfigError

    start, colon, stop = text.partition(":")
    if not start.isdecimal() or (colon and not stop.isdecimal()):
        raise ConfigError(f"--seeds {text!r}: expected the first seed, or A:B as in 0:64")
    count = int(stop) - int(start) if colon else number
    if count is None:
        raise ConfigError("how many samples? give -n N or --seeds A:B")
    if count < 1 or int(start) + count > _TOP:
        raise ConfigError(f"--seeds {text!r}: expected A < B, at most 2**60")
    if number is not None and count != number:
        raise ConfigError(f"--seeds {text!r} are {count} seeds, -n says {number}")
    return int(start), count


def _generator_values(texts: list[str] | None) -> dict[str, Any]:
    """Return `--set generator.KEY=VALUE` as nested options of the generator."""
    from genplug.config import nest
    from genplug.errors import ConfigError

    sets = options.assignments(texts)
    for key, _ in sets:
        if not key.startswith("generator."):
            raise ConfigError(f"unknown key {key!r} (from --set {key}); did you mean 'generator.{key}'?")
    return dict(nest(dict(sets)).get("generator", {}))


def _show(facts: dict[str, Any], as_json: bool) -> None:
    from genplug_cli.terminal import say, say_json

    if as_json:
        say_json(facts)
    else:
        first, last = facts["seeds"]
        say(f"{facts['out']}: {facts['n']} samples of {facts['generator']}, seeds {first} to {last}")
