"""``recserver recommend``: what a model of a data folder recommends, without a server."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from recserver.cli.data_folder import find_model_file, open_model
from recserver.cli.output import UsageError, cell, console, exit_on_error, print_json, printable
from recserver.core.errors import InvalidInput, os_error_text, quoted
from recserver.core.validation.values import entity_id
from recserver.recommend.request_options import ExportOptions, UserOptions
from recserver.training.export.export_job import (
    EXTENSIONS,
    ExportJob,
    FileTarget,
    TableTarget,
    check_table,
    extension_of,
)

if TYPE_CHECKING:
    from recserver.training.export.export_job import ExportProgress, ExportResult

FALLBACKS: Mapping[str | None, dict[str, Any]] = {
    None: {}, "overall": {}, "recent": {"popularity": "recent"}, "none": {"fallback": False},
}  # fmt: skip

OPTION_NAMES = {"max_per": "--max-per", "n": "-n", "candidates": "--candidate"}
"""Options that are not called as what they wish."""

DEFAULT_TABLE = "recommendations"


@dataclass(frozen=True, slots=True)
class RecommendOptions:
    """What the command line says, wishes as in a request but not checked."""

    data: Path
    model_id: str | None
    request: dict[str, Any]


def recommend_one(
    options: RecommendOptions,
    *,
    user: str | None,
    export_option: str | None,
    fallback: str | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Show the best items for one user, read from the data folder's model file."""
    with exit_on_error():
        if user is None:
            raise UsageError("There is nobody to recommend to: name a user, or everybody by --all.")
        if export_option is not None:
            raise UsageError("--out and --table are for everybody: add --all, or leave them out.")
        if fallback not in FALLBACKS:
            raise UsageError(f"--fallback {quoted(fallback)}: take overall, recent or none.")
        user_id = _user_id(user)
        wishes = _validated(UserOptions, options.request | FALLBACKS[fallback] | {"explain": explain})

        from recserver.recommend.pipeline import answer_to_json, recommend
        from recserver.recommend.query import Query

        model_id, _, model = open_model(options.data, options.model_id)
        query = Query.from_options(wishes)
        response = answer_to_json(model, query, recommend(model, user_id, query))
        told = {"model_id": model_id, "user_id": user_id, **response}
        if as_json:
            print_json(told)
        else:
            _print_recommendations(told)


def recommend_all(
    options: RecommendOptions,
    *,
    user: str | None,
    out: str | None,
    table: str | None,
    single_user_option: object,
    as_json: bool,
) -> None:
    """Write the best items for every user that a model knows."""
    with exit_on_error():
        if user is not None or single_user_option:
            raise UsageError("A user, --fallback and --explain are for one user: leave them out with --all.")
        if out is None:
            raise UsageError(f"--all needs --out: a file ending in {', '.join(EXTENSIONS)}, or a database's URL.")
        target = _table_target(options, out, table) if "://" in out else _file_target(out, table)
        wishes = _validated(ExportOptions, options.request)
        model_id, path = find_model_file(options.data, options.model_id)
        job = ExportJob(model_id=model_id, model=path, options=wishes, target=target)
        into = f"table {target.table}" if isinstance(target, TableTarget) else out
        result = _export(job, Path(out))
        if as_json:
            print_json({"model_id": model_id, **result.model_dump()})
        else:
            told = f"{result.rows:,} rows for {result.users:,} users, of version {result.model_version} of model "
            console.print(printable(f"{told}{model_id}, are in {into}; {result.seconds:.1f} s."), markup=False)


def _export(job: ExportJob, path: Path) -> ExportResult:
    """Do it, in this process, and put a file in its place."""
    from recserver.storage.atomic_files import remove_files_sync, replace_durably
    from recserver.training.export.export_worker import export

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # leaving nothing, as Ctrl-C
    with _progress_bar() as follow:
        if isinstance(job.target, TableTarget):
            return export(job, follow)
        try:
            result = export(job, follow)
            replace_durably(job.target.out, path)
        except OSError as error:
            raise InvalidInput(
                f"{quoted(path)} cannot be written ({os_error_text(error)}): check its folder."
            ) from None
        finally:
            remove_files_sync([job.target.out])
    return result


@contextmanager
def _progress_bar() -> Iterator[Callable[[ExportProgress], None]]:
    """A bar on standard error, if that is a terminal."""
    on = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = TextColumn("users"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=on, transient=True, disable=not on.is_terminal) as bar:
        work = bar.add_task("users", total=None)
        yield lambda seen: bar.update(work, total=seen.users, completed=seen.users_done)


def _file_target(out: str, table: str | None) -> FileTarget:
    from recserver.storage.atomic_files import temporary_path

    path, ending = Path(out), extension_of(Path(out).name)
    if table is not None:
        raise UsageError("--table is for a database: name one by its URL in --out, or leave it out.")
    if ending is None:
        raise UsageError(
            f"--out {quoted(out)} is no database's URL, and no file ending in {', '.join(EXTENSIONS)}."
        )
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent}: make it, or name another file with --out.")
    return FileTarget(out=temporary_path(path), extension=ending)


def _table_target(options: RecommendOptions, url: str, table: str | None) -> TableTarget:
    """A table of a database that whoever types this may write to: its file may lie anywhere."""
    from recserver.server.settings import load_settings

    try:
        check_table(table or DEFAULT_TABLE)
    except ValueError as error:
        raise UsageError(f"--table {quoted(table)}: {error}.") from None
    policy = load_settings().source_policy(options.data.resolve())
    return TableTarget(table=table or DEFAULT_TABLE, database=url, policy=policy, base_folder=Path.cwd())


def _validated(kind: Any, request: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(request)
    except ValidationError as error:
        from recserver.core.validation.messages import field_errors

        fault = field_errors(error)[0]
        name = str(fault.loc[0])
        raise UsageError(f"{OPTION_NAMES.get(name, f'--{name}')}: {fault.msg}.") from None


def _user_id(user: str) -> str:
    try:
        return entity_id(user)
    except ValueError as error:
        raise UsageError(f"The user's id {error}.") from None


def _print_recommendations(answer: Mapping[str, Any]) -> None:
    source = answer["source"] or "nothing, for the user is not known"
    heads = f"{answer['model_id']}, version {answer['model_version']}, for {answer['user_id']}: {source}"
    console.print(printable(heads), markup=False)
    if not answer["items"]:
        return
    explained = "because" in answer["items"][0]
    table = Table("", "item", "score", *(["because of"] if explained else []))
    for rank, item in enumerate(answer["items"], 1):
        why = ", ".join(f"{one['item_id']} {one['share']:.4g}" for one in item.get("because", ()))
        table.add_row(
            str(rank), cell(item["item_id"]), f"{item['score']:.6g}", *([cell(why or None)] if explained else [])
        )
    console.print(table)
