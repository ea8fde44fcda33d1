"""Commands of plugins: each plugin registers on its own, so that a broken one hides no other."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import typer
from typer.main import get_group

from genplug.registry import catalog, confined
from genplug_cli.terminal import warn


def plugin_commands(builtin: Collection[str]) -> dict[str, Any]:
    """Return the commands of installed plugins by name; what cannot be used is warned about."""
    owners: dict[str, list[str]] = {}
    commands: dict[str, Any] = {}
    for implementation in catalog().manager.hook.register_commands.get_hookimpls():
        owner = implementation.plugin_name
        for name, command in _commands_of(implementation, owner).items():
            owners.setdefault(name, []).append(owner)
            commands[name] = command
    for name, claimants in owners.items():
        if name in builtin or len(claimants) > 1:
            del commands[name]
            _warn_of_clash(name, claimants, name in builtin)
    return commands


def _commands_of(implementation: Any, owner: str) -> dict[str, Any]:
    """Return what one plugin registers, on an application of its own."""
    own = typer.Typer(rich_markup_mode=None, add_completion=False)
    with confined() as failure:
        implementation.function(**dict.fromkeys(implementation.argnames, own))
        return dict(get_group(own).commands) if own.registered_commands or own.registered_groups else {}
    warn(f"the commands of plugin {owner!r} are left out ({failure[0]})")
    return {}


def _warn_of_clash(name: str, claimants: list[str], builtin: bool) -> None:
    if builtin:
        warn(f"command {name!r} of {' and '.join(claimants)} is left out: genplug has its own")
    else:
        warn(f"command {name!r} is registered by {' and '.join(claimants)}; uninstall one of them")
