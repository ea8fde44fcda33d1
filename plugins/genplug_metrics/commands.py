"""`genplug statistics`: mean and covariance of a set's features as a file that stands in for the set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[str, typer.Argument(metavar="SET", help="Real samples, as 'genplug evaluate' takes them.")]
Out = Annotated[Path, typer.Argument(metavar="OUT.npz", help="File to write.")]
Extractor = Annotated[str, typer.Option("--extractor", metavar="NAME", help="Feature extractor.")]
Force = Annotated[bool, typer.Option("--force", help="Replace OUT.npz if it exists.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other option, as run.batch_size=64."),
]


def statistics(samples: Set, out: Out, extractor: Extractor, force: Force = False, set_: Sets = None) -> None:
    """Write the statistics of a sample set, which 'genplug evaluate' takes in the place of REAL.

    \b
    genplug statistics digits:held-out held-out.npz --extractor pixels
    genplug evaluate held-out.npz digits:train --evaluator frechet --extractor pixels

    The file says which extractor made it, with which weights. It has mu and sigma as pytorch-fid and
    clean-fid write them, which read it too.
    """
    import os

    from genplug.errors import DataError

    if out.suffix != ".npz":
        raise DataError(f"{out}: statistics are written to a file that ends in .npz")
    if os.path.lexists(out) and not force:
        raise DataError(f"{out} exists; name another file, or replace it with --force")
    if not os.path.isdir(out.absolute().parent):
        raise DataError(f"{out}: the folder is not there")
    from genplug.config import parse_set
    from genplug_metrics.reference import make_statistics

    count, width = make_statistics(samples, out, extractor, dict(parse_set(text) for text in set_ or ()))
    typer.echo(f"{out}: mean and covariance of {width} {extractor} features of {count} samples")
