"""`genplug fetch`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from genplug_cli import options

if TYPE_CHECKING:
    from genplug.receipts import Receipt

Name = Annotated[
    str, typer.Argument(metavar="PRESET", help="Preset, as 'genplug plugins --kind preset' lists.")
]
Force = Annotated[bool, typer.Option("--force", help="Download again what is here already.")]


def fetch(
    preset: Name, force: Force = False, json_: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Fetch published weights into the cache, as safetensors.

    \b
    genplug fetch edm2.img64-s
    genplug fetch edm2.img512-xs-guid-fid     the network and its guide

    The licence is shown and remembered. The file is compared with the registry's sha256 if it has
    one; otherwise the digest of the first download is recorded. An interrupted download is
    continued. The cache is GENPLUG_CACHE; GENPLUG_OFFLINE=1 forbids the network.
    """
    from genplug import fetching
    from genplug_cli import terminal

    receipts = fetching.fetch(preset, force=force, log=terminal.log(quiet))
    _show(receipts, json_)


def _show(receipts: tuple[Receipt, ...], as_json: bool) -> None:
    from genplug.weights import fetched_path
    from genplug_cli.terminal import say, say_json

    if as_json:
        say_json([{**dataclasses.asdict(one), "path": str(fetched_path(one.preset))} for one in receipts])
        return
    for one in receipts:
        size = one.weights_bytes / 1e6
        say(f"{one.preset}: {fetched_path(one.preset)} ({size:,.1f} MB)")
        say(f"  licence {one.licence or 'unknown'}; published file: {one.trust}")
