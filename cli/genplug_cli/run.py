"""`genplug run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
EvaluateEach = Annotated[
    bool, typer.Option("--evaluate-each", help="Judge what every objective makes, not only the last.")
]
Control = Annotated[
    bool, typer.Option("--control", help="Judge what equal compute gives without the last one's method.")
]
SweepText = Annotated[
    str | None,
    typer.Option("--sweep", metavar="KEY=A:B:STEP", help="A model per value of an option; or KEY=A,B,C."),
]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME|FILE", help="Do a whole experiment instead.")
]
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
    evaluate_each: EvaluateEach = False,
    control: Control = False,
    sweep: SweepText = None,
    recipe: RecipeName = None,
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
    genplug run -g edm2 -o autoguidance --sweep objective.scale=1:3:0.5
    genplug run --recipe ddo-fractal

    The same command with the same --out continues where it stopped. Options of components are set
    with --set or in a TOML file; `genplug plugins NAME` lists them.
    """
    from genplug.resolving import resolve
    from genplug.weights import require

    flags = {
        "runtime.processes": processes,
        "run.skip_bad": skip_bad,
        "run.evaluate_each": evaluate_each,
        "run.control": control,
    }
    sets = [*options.assignments(set_), *((key, value) for key, value in flags.items() if value)]
    if recipe is not None:
        named: dict[str, Any] = {"--generator": generator, "--objective": objective, "--dataset": dataset}
        named |= {"--extractor": extractor, "--evaluator": evaluator, "--config": config}
        named |= {"--control": control, "--evaluate-each": evaluate_each, "--sweep": sweep}
        _recipe(ctx, recipe, named, out, sets, plan, processes or 1, force, json_, quiet)
        return
    resolved = resolve(
        generator=generator,
        objectives=objective,
        dataset=dataset,
        extractors=extractor,
        evaluators=evaluator,
        config=options.file_values(config),
        config_name=str(config or ""),
        sets=sets,
        sweep=sweep,
    )
    if plan:
        _show_plan(resolved, json_)
        return
    require(resolved)
    if resolved.runtime.processes > 1 and not workers.launched():
        from genplug_cli.launch import launch

        raise typer.Exit(launch(resolved.runtime.processes, ctx.find_root().obj))
    _run(resolved, out, force, json_, quiet)


def _recipe(
    ctx: typer.Context,
    name: str,
    named: dict[str, Any],
    out: Path | None,
    sets: list[tuple[str, Any]],
    plan: bool,
    processes: int,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from genplug_cli import recipe

    recipe.check_alone(named)
    if plan:
        recipe.show_plan(name, sets, as_json)
    elif processes > 1 and not workers.launched():
        from genplug_cli.launch import launch

        raise typer.Exit(launch(processes, ctx.find_root().obj))
    else:
        recipe.run(name, out, sets, force, as_json, quiet)


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
