"""`genplug convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genplug_cli import options

if TYPE_CHECKING:
    from genplug.foreign import Foreign
    from genplug.layers import Layers
    from genplug.networks import Expected

Source = Annotated[Path, typer.Argument(metavar="FILE", help="Weights: .pkl, .pt, .ckpt, .safetensors.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Safetensors file to write.")]
For = Annotated[
    str | None, typer.Option("--for", metavar="G", help="Generator, extractor or preset it must fit.")
]
PartName = Annotated[
    str | None, typer.Option("--part", metavar="NAME", help="Entry of FILE, as ema or state_dict.")
]
Prefix = Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Take the names below this alone.")]
Force = Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Option of G, as generator.resolution=32."),
]


def convert(
    source: Source,
    out: Out,
    for_: For = None,
    part: PartName = None,
    prefix: Prefix = "",
    force: Force = False,
    set_: Sets = None,
    json_: options.Json = False,
) -> None:
    """Turn published weights into safetensors; nothing in FILE is run.

    \b
    genplug convert network-snapshot.pkl weights.safetensors --for edm2.img64-s
    genplug convert model.ckpt unet.safetensors --part state_dict --prefix model.diffusion_model

    What FILE is, and which network in it is meant, follows from its content. Weights in half
    precision are written in single precision. Nothing is written if FILE is refused or does not fit.
    """
    _check_target(out, force)
    network = _expected(for_, set_)
    from genplug import foreign
    from genplug_cli.terminal import say, say_json

    fits, adapt, what = (network.shapes, network.adapt, network.what) if network else (None, None, "")
    found = foreign.convert(source, out, part=part, prefix=prefix, fits=fits, adapt=adapt, what=what)
    if json_:
        say_json({"source": str(source), "out": str(out), **_plain(found)})
    else:
        say(_text(out, found))


def _check_target(out: Path, force: bool) -> None:
    """Refuse to replace a file unasked."""
    import os

    from genplug.errors import WeightsError

    if os.path.lexists(out) and not force:
        raise WeightsError(f"{out} exists; name another file, or replace it with --force")


def _expected(reference: str | None, sets: list[str] | None) -> Expected | None:
    """Return what the network that `--for` names expects; None without it."""
    from genplug.errors import ConfigError, WeightsError

    if reference is None:
        if sets:
            raise ConfigError("--set gives options of the network that --for names; name it with --for G")
        return None
    from genplug.networks import expected

    found = expected(reference, _layers(sets))
    if not found.shapes:
        raise WeightsError(f"{reference!r} has no weights")
    return found


def _layers(sets: list[str] | None) -> Layers:
    """Return `--set` options: `generator.KEY`, `extractor.NAME.KEY`, or a generator's key alone."""
    from genplug.config import flatten, nest
    from genplug.layers import layer
    from genplug_cli.sample import generator_options

    pairs = options.assignments(sets)
    if pairs and all(key.startswith("extractor.") for key, _ in pairs):
        return layer({}, pairs)
    chosen = flatten(nest(generator_options(sets)))
    return layer({}, [(f"generator.{key}", value) for key, value in chosen])


def _plain(found: Foreign) -> dict[str, Any]:
    place = {"format": found.format, "part": found.part, "prefix": found.prefix, "sha256": found.sha256}
    return {**place, "tensors": len(found.tensors), "parameters": found.parameters, "facts": found.facts}


def _text(out: Path, found: Foreign) -> str:
    """Return what was found, a fact per line."""
    from genplug_cli.terminal import table

    rows = {"format": found.format, "part": found.part or "the file itself", "prefix": found.prefix}
    rows |= {"sha256": found.sha256} | {key.replace("_", " "): fact for key, fact in found.facts.items()}
    head = f"{out}: {len(found.tensors)} tensors, {found.parameters:,} parameters"
    return f"{head}\n{table([(key, _fact(fact)) for key, fact in rows.items() if fact], indent='  ')}"


def _fact(value: Any) -> str:
    """Return a fact as one line; what a terminal would obey is shown as an escape."""
    if isinstance(value, dict):
        text = ", ".join(f"{key}={options.setting(item)}" for key, item in value.items())
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text.isprintable() else ascii(text)
