"""`genplug`: the commands, built-in and from plugins, and the one way in which they end.

Every failure that a user can cause is one line on stderr and exit code 2; see `failures`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from genplug.errors import Stopped
from genplug_cli import check, convert, evaluate, fetch, new, plugins, run, sample, signals
from genplug_cli.failures import report


class Commands(TyperGroup):
    """The built-in commands, and those of plugins once one of them could be meant."""

    _foreign: dict[str, Any] | None = None

    @property
    def foreign(self) -> dict[str, Any]:
        """Commands of installed plugins: found only when asked for, so that built-in ones start fast."""
        if self._foreign is None:
            from genplug_cli.thirdparty import plugin_commands

            self._foreign = plugin_commands(self.commands)
        return self._foreign

    def list_commands(self, ctx: Any) -> list[str]:
        """Return built-in commands first, in the order of work."""
        return [*self.commands, *sorted(self.foreign)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name."""
        return self.commands.get(cmd_name) or self.foreign.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name; an unknown one is answered with the nearest."""
        from genplug.errors import unknown

        if self.get_command(ctx, args[0]) is None:
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> None:
        """Run the command; what it returns is no exit code."""
        try:
            super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(signal.SIGINT) from None


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("sample")(sample.sample)
app.command("evaluate")(evaluate.evaluate)
app.command("plugins")(plugins.plugins)
app.command("fetch")(fetch.fetch)
app.command("convert")(convert.convert)
app.command("check")(check.check)
app.command("new")(new.new)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"genplug {metadata.version('genplug')}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run, improve and judge image generators.

    \b
    genplug run --generator edm2 --objective ddo    improve a generator and prove it
    genplug plugins                                 what is installed

    Results go to stdout, progress and errors to stderr. `genplug COMMAND --help` has examples.
    """


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    arguments = list(arguments) or ["--help"]
    try:
        code = get_command(app).main(arguments, prog_name="genplug", standalone_mode=False, obj=arguments)
        return code if isinstance(code, int) else 0
    except (Exception, Stopped) as error:
        return report(signals.cause(error), arguments[0])


def main() -> NoReturn:
    """Run the command line of this process."""
    signals.prepare()
    sys.exit(execute(sys.argv[1:]))
