"""The command line. Only here are signals, logging and exit codes touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from recserver.cli.commands.evaluate_options import evaluate
from recserver.cli.commands.recommend_options import recommend
from recserver.cli.commands.serve_options import serve
from recserver.core.errors import RecServerError, quoted
from recserver.server.workers.process_setup import exit_with_error, replace_unencodable
from recserver.training.run_outcome import RunOutcome

app = typer.Typer(
    name="recserver",
    help="A recommendation server: trains on the data you have, on a schedule, and answers GET /recommend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

chefs_app = typer.Typer(help="Look at data chefs, with or without a running server.", no_args_is_help=True)
app.add_typer(chefs_app, name="chefs")

models_app = typer.Typer(
    help="The models of a data folder: look at them, take them to and from other tools. No server is needed.",
    no_args_is_help=True,
)
app.add_typer(models_app, name="models")

tasks_app = typer.Typer(
    help="The tasks of a running server: look at them, run them, stop them. RECSERVER_API_KEY is the key, if any.",
    no_args_is_help=True,
)
app.add_typer(tasks_app, name="tasks")
app.command()(evaluate)
app.command()(recommend)
app.command()(serve)


def _check_count(value: int) -> int:
    """A number of rows or runs, if the server would take it."""
    from recserver.core.validation.values import parse_count

    try:
        return parse_count(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _check_outcome(value: str | None) -> str | None:
    """An outcome, if there is such a one."""
    if value is not None and value not in list(RunOutcome):
        raise typer.BadParameter(f"{quoted(value)} is no outcome: take one of {', '.join(RunOutcome)}")
    return value


ExistingFolder = Annotated[
    Path,
    typer.Option("--data", envvar="RECSERVER_DATA", help="Data folder, with config/; it must be there already."),
]


@app.command()
def demo(
    data: Annotated[Path, typer.Option("--data", help="Folder for the demo's files.")] = Path("recserver-demo"),
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep serving until stopped.")] = False,
) -> None:
    """Make a small restaurant data set, train on it through the HTTP API, and show recommendations."""
    from recserver.cli.commands.demo import demo as run

    run(data, port=port, keep=keep)


AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


@chefs_app.command("list")
def list_chefs(data: ExistingFolder = Path("data"), as_json: AsJson = False) -> None:
    """Show all data chefs of a data folder."""
    from recserver.cli.commands.chefs import list_chefs as run

    run(data, as_json=as_json)


@chefs_app.command("preview")
def preview_chef(
    data_chef_id: Annotated[str, typer.Argument(metavar="ID", help="The data chef.")],
    data: ExistingFolder = Path("data"),
    rows: Annotated[int, typer.Option("--rows", callback=_check_count, help="How many rows to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the first rows of a source, before and after renaming, and what to change.

    The source is read here, not by a server; a running one is not disturbed.
    """
    from recserver.cli.commands.chefs import preview_chef as run

    run(data, data_chef_id, rows=rows, as_json=as_json)


def _check_format(value: str | None) -> str | None:
    """A format of exported models, if there is such a one."""
    if value not in (None, "npz", "safetensors"):
        raise typer.BadParameter(f"{quoted(value)} is no format: take npz or safetensors")
    return value


ModelId = Annotated[str, typer.Argument(metavar="ID", help="The model.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Even if it exists.")]


@models_app.command("list")
def list_models(data: ExistingFolder = Path("data"), as_json: AsJson = False) -> None:
    """Show all models of a data folder."""
    from recserver.cli.commands.models import list_models as run

    run(data, as_json=as_json)


@models_app.command("export")
def export_model(
    model_id: ModelId,
    data: ExistingFolder = Path("data"),
    output: Annotated[Path | None, typer.Option("--output", help="The file to write [ID.FORMAT].")] = None,
    kind: Annotated[str, typer.Option("--format", callback=_check_format, help="npz or safetensors.")] = "npz",
    overwrite: Overwrite = False,
) -> None:
    """Write a trained version as arrays that numpy, PyTorch and others read."""
    from recserver.cli.commands.models import export_model as run

    run(data, model_id, output=output, kind=kind, overwrite=overwrite)


@models_app.command("import")
def import_model(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file of factors and ids.")],
    model_id: ModelId,
    *,
    data: ExistingFolder = Path("data"),
    kind: Annotated[
        str | None,
        typer.Option("--format", callback=_check_format, help="npz or safetensors [by the file's ending]."),
    ] = None,
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="What the next training of a new model uses.")
    ] = "nmf",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make it the next version of a model that exists.")
    ] = False,
) -> None:
    """Make a model of factors and ids. A running server takes it up by itself."""
    from recserver.cli.commands.models import import_model as run

    run(data, source, model_id, kind=kind, algorithm_name=algorithm, overwrite=overwrite)


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="RECSERVER_URL",
        help="Address of the server; http://127.0.0.1:9999 if not given, or the port in RECSERVER_PORT.",
    ),
]
TaskName = Annotated[str, typer.Argument(metavar="NAME", help="The task.")]


@tasks_app.command("list")
def list_tasks(url: Url = None, as_json: AsJson = False) -> None:
    """Show all tasks: when they run, how far they are, how the last run ended."""
    from recserver.cli.commands.tasks import list_tasks as run

    run(url, as_json=as_json)


@tasks_app.command("run")
def run_task(
    task_name: TaskName,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the run.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Train a task's model now, or join the run of the task that is under way, and follow it to its end.

    The exit status is 0 if it completed, 1 if it failed, 3 if it was stopped. Ctrl-C ends the following only.
    """
    from recserver.cli.commands.tasks import run_task as run

    run(url, task_name, wait=not no_wait, as_json=as_json)


@tasks_app.command("pause")
def pause_task(task_name: TaskName, url: Url = None, as_json: AsJson = False) -> None:
    """Let the scheduler leave a task alone. A run under way goes on."""
    from recserver.cli.commands.tasks import change_task as run

    run(url, "pause_task", task_name, as_json=as_json)


@tasks_app.command("resume")
def resume_task(task_name: TaskName, url: Url = None, as_json: AsJson = False) -> None:
    """Let the scheduler run a paused task again."""
    from recserver.cli.commands.tasks import change_task as run

    run(url, "resume_task", task_name, as_json=as_json)


@tasks_app.command("stop")
def stop_task(task_name: TaskName, url: Url = None, as_json: AsJson = False) -> None:
    """End the run of a task at once. The version before it serves on."""
    from recserver.cli.commands.tasks import change_task as run

    run(url, "stop_training", task_name, as_json=as_json)


@tasks_app.command("history")
def history(
    task_name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only of this task.")] = None,
    *,
    model_id: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    outcome: Annotated[
        str | None,
        typer.Option("--outcome", callback=_check_outcome, help=f"Only these: {', '.join(RunOutcome)}."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", callback=_check_count, help="How many runs to show.")] = 20,
    run_id: Annotated[str | None, typer.Option("--run", help="Show this one run, with all details.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what ran, newest first."""
    from recserver.cli.commands.history import show_run, show_runs

    if run_id is None:
        show_runs(url, as_json=as_json, task_name=task_name, model_id=model_id, outcome=outcome, limit=limit)
    elif task_name or model_id or outcome:
        raise typer.BadParameter("stands alone: give no NAME, --model or --outcome", param_hint="--run")
    else:
        show_run(url, run_id, as_json=as_json)


@app.command()
def version() -> None:
    """Show the version."""
    from importlib.metadata import version as version_of

    typer.echo(f"recserver {version_of('recserver')}")


def _limit_numerical_threads() -> None:
    """One answer is too small a computation to be shared out: threads only wait for each other.

    Trainings are not concerned, they set their own number. It must be said before numpy is first imported.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def main() -> None:
    """Entry point of ``recserver``: errors of ours become one sentence and an exit status."""
    _limit_numerical_threads()
    replace_unencodable()
    try:
        app()
    except RecServerError as error:
        exit_with_error(error)
