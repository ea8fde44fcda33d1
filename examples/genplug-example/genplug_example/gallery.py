"""The command `genplug example-gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Reference = Annotated[str, typer.Argument(metavar="G", help="Generator, preset, or result of a run.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="A PNG file that is not there yet.")]
Rows = Annotated[int, typer.Option("--rows", min=1, max=100, help="Samples of each class.")]

COLUMNS = 10  # where there are no classes


def gallery(reference: Reference, out: Out, rows: Rows = 8) -> None:
    """Draw one picture of a generator: a column per class, a row per sample.

    \b
    genplug example-gallery example-mlp.digits before.png
    genplug example-gallery runs/example-mlp.digits-ddo:improved after.png
    """
    from genplug.errors import DataError

    if out.suffix != ".png" or out.exists() or not out.resolve().parent.is_dir():
        raise DataError(f"cannot write {out}: expected a new file NAME.png in a folder that exists")
    import genplug
    import torch
    from genplug.writers import png

    generator = genplug.load(reference)
    if generator.modality != "image":
        raise DataError(f"{reference!r} makes {generator.modality}; a gallery shows images")
    cond = generator.conditions(torch.arange(4096))  # balanced: seed i has class i modulo K
    columns = int(cond.labels_N.max()) + 1 if cond is not None and cond.labels_N is not None else COLUMNS
    seeds_N = torch.arange(rows * columns)
    samples_NCHW = generator.sample(seeds_N, generator.conditions(seeds_N)).cpu()
    grid_RKCHW = samples_NCHW.unflatten(0, (rows, columns))
    out.write_bytes(png(grid_RKCHW.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)))
    typer.echo(f"{out}: {rows} samples of each of {columns} columns, seeds 0 to {len(seeds_N) - 1}")
