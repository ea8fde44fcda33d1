"""`genplug check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genplug_cli import options

if TYPE_CHECKING:
    from genplug.registry import Catalog, Entry
    from genplug.testing.checking import Verdict

BROKEN = 1

Name = Annotated[str, typer.Argument(metavar="NAME", help="An installed component.")]
KindOf = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help="Where components of two kinds have this name.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Option of the component, as generator.weights=FILE."),
]


def check(
    name: Name,
    kind: KindOf = None,
    set_: Sets = None,
    json_: options.Json = False,
) -> None:
    """Test an installed component against everything that its kind promises.

    \b
    genplug check edm2
    genplug check files --set dataset.path=photos/
    genplug check euler --json

    The component is built from its defaults and the small values that its author gives for tests.
    Exit code 1 says that a promise is broken.
    """
    from genplug.registry import catalog
    from genplug_cli import terminal

    entries = _named(catalog(), name, kind)
    given = [(entry, _own_options(entry, set_)) for entry in entries]
    from genplug.testing.checking import check as run_checks

    found = [(entry, run_checks(entry.spec.kind, name, values)) for entry, values in given]
    if json_:
        terminal.say_json([_plain(entry, verdicts) for entry, verdicts in found])
    else:
        terminal.say("\n\n".join(_text(entry, verdicts) for entry, verdicts in found))
    if any(verdict.outcome == "broken" for _, verdicts in found for verdict in verdicts):
        raise typer.Exit(BROKEN)


def _named(installed: Catalog, name: str, kind: str | None) -> list[Entry]:
    """Return the components of this name; none is an error that names what there is."""
    from genplug.errors import unknown
    from genplug.registry import KINDS

    if kind is not None:
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        return [installed.get(kind, name)]
    entries = [entry for entry in installed if entry.spec.name == name]
    for clash_kind, clash_name in installed.clashes:
        if clash_name == name:
            installed.get(clash_kind, name)
    if not entries:
        raise unknown("component", name, {entry.spec.name for entry in installed})
    return entries


def _own_options(entry: Entry, texts: list[str] | None) -> dict[str, Any]:
    """Return `--set` options as the component's own; keys are those that `genplug plugins NAME` lists."""
    from genplug.config import nest
    from genplug.errors import ConfigError
    from genplug_cli.detail import section

    prefix, own = f"{section(entry)}.", {}
    for key, value in options.assignments(texts):
        if not key.startswith(prefix):
            raise ConfigError(
                f"unknown key {key!r} (from --set {key}); options of {entry.spec.name!r} are {prefix}KEY"
            )
        own[key.removeprefix(prefix)] = value
    return nest(own)


def _text(entry: Entry, verdicts: Sequence[Verdict]) -> str:
    from genplug_cli.terminal import table

    rows = [
        (verdict.outcome, verdict.promise + (f" ({verdict.reason})" if verdict.reason else ""))
        for verdict in verdicts
    ]
    words = {"kept": "kept", "broken": "broken", "does not apply": "not applicable"}
    counts = {word: sum(v.outcome == outcome for v in verdicts) for outcome, word in words.items()}
    summary = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{entry.spec.kind} {entry.spec.name} ({entry.package})\n{table(rows, indent='  ')}\n{summary}"


def _plain(entry: Entry, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    head = {"kind": entry.spec.kind, "name": entry.spec.name, "package": str(entry.package)}
    return {**head, "promises": [vars(verdict) for verdict in verdicts]}
