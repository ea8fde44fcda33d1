"""`genplug run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genplug_cli import options, workers

if TYPE_CHECKING:
    from genplug.parts import Resolved

Generator = Annotated[
    str | None,
    typer.Option("--generator", "-g", metavar="NAME", help="Generator or preset."),
]
Objectives = Annotated[
    list[str] | None,
    typer.Option("--objective", "-o", metavar="NAME", help="Objective; repeat for a chain; or none."),
]
DatasetName = Annotated[
    str | None, typer.Option("--dataset", metavar="NAME|PATH", help="Data set, or a folder, .zip or .npz.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Run directory (runs/GENERATOR-OBJECTIVES)."),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file like run.toml.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other option, as run.seed=1.")
]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Check everything and say what would run.")]
Processes = Annotated[
    int | None, typer.Option("--processes", min=1, metavar="N", help="Share the work over N processes.")
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out unreadable images, and count them.")]
Force = Annotated[bool, typer.Option("--force", help="Empty the run directory first.")]


def run(
    ctx: typer.Context,
    generator: Generator = None,
    objective: Objectives = None,
    dataset: DatasetName = None,
    extractor: options.Extractors = None,
    evaluator: options.Evaluators = None,
    out: Out = None,
    config: ConfigFile = None,
    set_: Sets = None,
    plan: PlanOnly = False,
    processes: Processes = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Improve a generator, sample before and after with the same seeds, judge both, report.

    \b
    genplug run --generator edm2 --objective ddo --out runs/ddo
    genplug run -g edm2 -o none --set run.samples=200      sample and judge only
    genplug run -g edm2 -o ddo --set objective.alpha=2 --plan

    The same command with the same --out continues where it stopped. Options of components are set
    with --set or in a TOML file; `genplug plugins NAME` lists them.
    """
    from genplug.resolving import resolve
    from genplug.weights import require

    sets = [
        *options.assignments(set_),
        *([("runtime.processes", processes)] if processes else []),
        *([("run.skip_bad", True)] if skip_bad else []),
    ]
    resolved = resolve(
        generator=generator,
        objectives=objective,
        dataset=dataset,
        extractors=extractor,
        evaluators=evaluator,
        config=options.file_values(config),
        config_name=str(config or ""),
        sets=sets,
    )
    if plan:
        _show_plan(resolved, json_)
        return
    require(resolved)
    if resolved.runtime.processes > 1 and not workers.launched():
        from genplug_cli.launch import launch

        raise typer.Exit(launch(resolved.runtime.processes, ctx.find_root().obj))
    _run(resolved, out, force, json_, quiet)


def _show_plan(resolved: Resolved, as_json: bool) -> None:
    from genplug.planning import plan
    from genplug_cli.planned import plan_text
    from genplug_cli.terminal import say, say_json

    described = plan(resolved)
    say_json(described) if as_json else say(plan_text(described, resolved))


def _run(resolved: Resolved, out: Path | None, force: bool, as_json: bool, quiet: bool) -> None:
    from genplug import pipeline
    from genplug_cli import terminal
    from genplug_cli.scores import run_table

    result = pipeline.run(resolved=resolved, out=out, force=force, log=terminal.log(quiet))
    if as_json:
        terminal.say_json({**result.metrics, "directory": str(result.directory)})
        return
    terminal.say(run_table(result.metrics, resolved.catalog))
    terminal.say()
    for name in ("metrics.json", "report.html"):
        if (result.directory / name).is_file():
            terminal.say(str(result.directory / name))
