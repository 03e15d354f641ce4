"""``recserver recommend``: recommendations of a model in a data folder, without a server."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer import Argument, Option

from recserver._internal.cli.command import AsJson, ExistingFolder, UsageError, command, new_app, usage_error_from
from recserver._internal.cli.data_folder import find_model_file, open_model
from recserver._internal.cli.output import cell, console, error_console, print_json, print_line
from recserver._internal.core.errors import InvalidInput, os_error_text, quoted
from recserver._internal.core.validation.messages import field_errors
from recserver._internal.core.validation.values import entity_id
from recserver._internal.recommend.pipeline import answer_warnings, scored_items
from recserver._internal.recommend.pipeline import recommend as recommend_items
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import ExportOptions, UserOptions
from recserver._internal.results.recommendations import BatchRecommendations
from recserver._internal.server.settings import load_settings
from recserver._internal.storage.atomic_files import remove_files, replace_durably, temporary_path
from recserver._internal.training.export.export_job import (
    EXTENSIONS,
    ExportJob,
    ExportProgress,
    ExportResult,
    FileTarget,
    TableTarget,
    check_table,
    extension_of,
)
from recserver._internal.training.export.export_worker import export

FALLBACKS: Mapping[str | None, dict[str, Any]] = {
    None: {}, "overall": {}, "recent": {"popularity": "recent"}, "none": {"fallback": False},
}  # fmt: skip

OPTION_NAMES = {"max_per": "--max-per", "n": "-n", "candidates": "--candidate"}
"""Command line options whose name differs from that of the request option."""

DEFAULT_TABLE = "recommendations"

Text = str | None
Texts = list[str] | None

app = new_app()


@command(app)
def recommend(
    user: Annotated[Text, Argument(metavar="USER", help="The user; or use --all.")] = None,
    *,
    data: ExistingFolder = Path("data"),
    model_id: Annotated[Text, Option("--model", help="The model, if there are several.")] = None,
    n: Annotated[Text, Option("-n", help="Maximum number of items, 1 to 1000 [10].")] = None,
    conditions: Annotated[
        Texts, Option("--filter", help="Condition on items: genre=Comedy, price<20. Repeatable.")
    ] = None,
    exclude: Annotated[Texts, Option(help="An item to exclude. Repeatable.")] = None,
    candidates: Annotated[Texts, Option("--candidate", help="Recommend only these items. Repeatable.")] = None,
    boost: Annotated[Texts, Option(help="Multiply scores: genre=Comedy*1.5. Repeatable.")] = None,
    max_per: Annotated[Texts, Option(help="Maximum number of items per value: genre:2. Repeatable.")] = None,
    diversity: Annotated[Text, Option(help="0 = relevance only, 1 = maximum diversity [0].")] = None,
    include_seen: Annotated[
        bool, Option("--include-seen", help="Include items that the user has interacted with.")
    ] = False,
    fallback: Annotated[
        Text, Option(help="For cold-start users: overall or recent popularity, or none; overall by default.")
    ] = None,
    explain: Annotated[
        bool, Option("--explain", help="Show which of the user's items led to each recommendation.")
    ] = False,
    all_users: Annotated[bool, Option("--all", help="Export all users of the model to --out.")] = False,
    out: Annotated[
        Text, Option(help="With --all: a file ending in .parquet, .csv, .csv.gz or .jsonl, or a database URL.")
    ] = None,
    table: Annotated[Text, Option(help="With a database URL: the table; recommendations by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model recommends to a user, or export recommendations for all users. No server is needed.

    In a database table, the model's rows are replaced in one transaction; a missing table is created.
    """
    options = {
        "n": n, "filter": conditions, "exclude": exclude, "candidates": candidates, "boost": boost,
        "max_per": max_per, "diversity": diversity, "exclude_seen": not include_seen,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value not in (None, [])}
    if all_users:
        if user is not None or fallback or explain:
            raise UsageError("USER, --fallback and --explain are for one user: leave them out with --all.")
        if out is None:
            raise UsageError(f"--all needs --out: a file ending in {', '.join(EXTENSIONS)}, or a database URL.")
        target = _table_target(data, out, table) if "://" in out else _file_target(out, table)
        options = _validated(ExportOptions, options)
        model_id, path = find_model_file(data, model_id)
        _recommend_all(ExportJob(model_id=model_id, model=path, options=options, target=target), out, as_json)
        return
    if user is None:
        raise UsageError("No user given: name one, or use --all.")
    if out is not None or table is not None:
        raise UsageError("--out and --table are for all users: add --all, or leave them out.")
    if fallback not in FALLBACKS:
        raise UsageError(f"--fallback {quoted(fallback)} is not valid: use overall, recent or none.")
    with usage_error_from(ValueError, "The user id {}."):
        user_id = entity_id(user)
    query = Query.from_options(_validated(UserOptions, options | FALLBACKS[fallback] | {"explain": explain}))
    model_id, _, model = open_model(data, model_id)
    answer = recommend_items(model, user_id, query)
    result = BatchRecommendations(
        user_id=user_id,
        items=scored_items(answer),
        n_recommendations=len(answer.items),
        source=answer.source,
        model_version=model.model_version,
        warnings=answer_warnings(model, query),
    )
    response = {"model_id": model_id, **result.to_dict()}
    if as_json:
        print_json(response)
    else:
        _print_recommendations(response)


def _recommend_all(job: ExportJob, out: str, as_json: bool) -> None:
    """Export recommendations for all users of a model, and show the result."""
    result = _export(job, Path(out))
    if as_json:
        print_json({"model_id": job.model_id, **result.model_dump()})
        return
    destination = f"table {job.target.table}" if isinstance(job.target, TableTarget) else out
    print_line(
        f"Wrote {result.rows:,} rows for {result.users:,} users to {destination}: "
        f"model {job.model_id}, version {result.model_version}, {result.seconds:.1f} s."
    )


def _export(job: ExportJob, path: Path) -> ExportResult:
    """Run the export in this process, and rename a finished file to ``path``."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that temporary files are removed
    with _progress_bar() as on_progress:
        if isinstance(job.target, TableTarget):
            return export(job, on_progress)
        try:
            result = export(job, on_progress)
            replace_durably(job.target.out, path)
        except OSError as error:
            raise InvalidInput(
                f"{quoted(path)} cannot be written ({os_error_text(error)}): check its folder."
            ) from None
        finally:
            remove_files([job.target.out])
    return result


@contextmanager
def _progress_bar() -> Iterator[Callable[[ExportProgress], None]]:
    """A progress bar on standard error, if that is a terminal."""
    columns = TextColumn("users"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=error_console, transient=True, disable=not error_console.is_terminal) as bar:
        task = bar.add_task("users", total=None)
        yield lambda progress: bar.update(task, total=progress.users, completed=progress.users_done)


def _file_target(out: str, table: str | None) -> FileTarget:
    path, extension = Path(out), extension_of(Path(out).name)
    if table is not None:
        raise UsageError("--table is for a database: give a database URL in --out, or leave --table out.")
    if extension is None:
        raise UsageError(
            f"--out {quoted(out)} is neither a database URL nor a file ending in {', '.join(EXTENSIONS)}."
        )
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent}: create it, or name another file with --out.")
    return FileTarget(out=temporary_path(path), extension=extension)


def _table_target(data: Path, url: str, table: str | None) -> TableTarget:
    """A table of a database. An SQLite file may be anywhere that the user of the command line may write."""
    table = table or DEFAULT_TABLE
    with usage_error_from(ValueError, f"--table {quoted(table)}: {{}}."):
        check_table(table)
    policy = load_settings().source_policy(data.resolve())
    return TableTarget(table=table, database=url, policy=policy, base_folder=Path.cwd())


def _validated(kind: Any, options: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(options)
    except ValidationError as error:
        field_error = field_errors(error)[0]
        name = str(field_error.loc[0])
        raise UsageError(f"{OPTION_NAMES.get(name, f'--{name}')}: {field_error.msg}.") from None


def _print_recommendations(response: Mapping[str, Any]) -> None:
    source = response["source"] or "nothing, the user is unknown"
    model = f"{response['model_id']}, version {response['model_version']}"
    print_line(f"{model}, for {response['user_id']}: {source}")
    if not response["items"]:
        return
    explained = "because" in response["items"][0]
    table = Table("", "item", "score", *(["because of"] if explained else []))
    for rank, item in enumerate(response["items"], 1):
        reasons = ", ".join(f"{reason['item_id']} {reason['share']:.4g}" for reason in item.get("because", ()))
        columns = str(rank), cell(item["item_id"]), f"{item['score']:.6g}"
        table.add_row(*columns, *([cell(reasons or None)] if explained else []))
    console.print(table)
