"""`genplug sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genplug_cli import options

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
    from genplug_cli.ordering import Order, check, generator_values, seed_span

    first, count = seed_span(seeds, number)
    order = Order(reference, out, first, count, classes, batch, generator_values(set_))
    part = check(order)
    from genplug_cli.drawing import draw

    _show(draw(order, part, quiet), json_)


def _show(facts: dict[str, Any], as_json: bool) -> None:
    from genplug_cli.terminal import say, say_json

    if as_json:
        say_json(facts)
    else:
        first, last = facts["seeds"]
        say(f"{facts['out']}: {facts['n']} samples of {facts['generator']}, seeds {first} to {last}")
