"""`genplug plugins`."""

from __future__ import annotations

from typing import Annotated

import typer

from genplug_cli import options

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Component, preset or recipe to describe.")
]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="Only generator, sampler, ..., preset or recipe."),
]


def plugins(name: Name = None, kind: Kind = None, json_: options.Json = False) -> None:
    """List what is installed: components of every kind, presets, recipes, and plugins that are broken.

    \b
    genplug plugins                    everything, a line each
    genplug plugins --kind preset      published weights and configurations
    genplug plugins --kind recipe      experiments for genplug run --recipe
    genplug plugins edm2               options, defaults, presets and an example of one
    """
    from genplug.errors import unknown
    from genplug.presets import registry
    from genplug.registry import KINDS, catalog

    kinds = (*KINDS, "preset", "recipe")
    if kind is not None and kind not in kinds:
        raise unknown("kind", kind, kinds)
    installed = catalog()
    data = registry(installed)
    if name is not None:
        from genplug_cli.detail import show

        show(name, kind, installed, data, json_)
    else:
        from genplug_cli.listing import show as show_all

        show_all(kind, installed, data, json_)
