"""`genplug sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genplug_cli import options

if TYPE_CHECKING:
    from genplug.ordering import Order

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
    from genplug.ordering import Order, check

    first, count = seed_span(seeds, number)
    order = Order(reference, count, out, first, classes, batch, generator_options(set_))
    part = check(order)
    from genplug.drawing import fulfil
    from genplug_cli import terminal

    generator = fulfil(order, part, terminal.log(quiet))
    _show(order, generator.modality, json_)


def seed_span(text: str, number: int | None) -> tuple[int, int]:
    """Return first seed and count from `--seeds A`, or `A:B` without B, and `-n`."""
    from genplug.errors import ConfigError

    start, colon, stop = text.partition(":")
    if not start.isdecimal() or (colon and not stop.isdecimal()):
        raise ConfigError(f"--seeds {text!r}: expected the first seed, or A:B as in 0:64")
    count = int(stop) - int(start) if colon else number
    if count is None:
        raise ConfigError("how many samples? give -n N or --seeds A:B")
    if count < 1:
        raise ConfigError(f"--seeds {text!r}: expected A < B")
    if number is not None and count != number:
        raise ConfigError(f"--seeds {text!r} are {count} seeds, -n says {number}")
    return int(start), count


def generator_options(texts: list[str] | None) -> dict[str, Any]:
    """Return `--set generator.KEY=VALUE` as options of the generator by their dotted keys."""
    from genplug.errors import ConfigError

    sets = dict(options.assignments(texts))
    for key in sets:
        if not key.startswith("generator."):
            raise ConfigError(f"unknown key {key!r} (from --set {key}); did you mean 'generator.{key}'?")
    return {key.removeprefix("generator."): value for key, value in sets.items()}


def _show(order: Order, modality: str, as_json: bool) -> None:
    from genplug_cli.terminal import say, say_json

    first, last = order.first, order.first + order.count - 1
    if as_json:
        made = {"out": str(order.out), "n": order.count, "generator": order.reference}
        say_json({**made, "modality": modality, "seeds": [first, last], "classes": order.classes})
    else:
        say(f"{order.out}: {order.count} samples of {order.reference}, seeds {first} to {last}")
