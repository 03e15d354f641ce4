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

from recserver.cli.data_folder import opened_of, packed_of
from recserver.cli.output import WrongOption, cell, console, failing_quietly, print_json, printable
from recserver.core.errors import InvalidInput, reason_of, shown
from recserver.core.validation.values import entity_id
from recserver.recommend.request_options import ExportWishes, PersonalWishes
from recserver.training.export.export_job import (
    ENDINGS,
    ExportJob,
    FileTarget,
    TableTarget,
    check_table,
    ending_of,
    stated,
)

if TYPE_CHECKING:
    from recserver.training.export.export_job import ExportProgress, ExportResult

FALLBACKS: Mapping[str | None, dict[str, Any]] = {
    None: {}, "overall": {}, "recent": {"popularity": "recent"}, "none": {"fallback": False},
}  # fmt: skip

OPTIONS = {"max_per": "--max-per", "n": "-n", "candidates": "--candidate"}
"""Options that are not called as what they wish."""

USUAL_TABLE = "recommendations"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says, wishes as in a request but not checked."""

    data: Path
    model_id: str | None
    wishes: dict[str, Any]


def recommend_one(
    asked: Asked, *, user: str | None, beside: str | None, fallback: str | None, explain: bool, as_json: bool
) -> None:
    """Show the best items for one user, read from the data folder's model file."""
    with failing_quietly():
        if user is None:
            raise WrongOption("There is nobody to recommend to: name a user, or everybody by --all.")
        if beside is not None:
            raise WrongOption("--out and --table are for everybody: add --all, or leave them out.")
        if fallback not in FALLBACKS:
            raise WrongOption(f"--fallback {shown(fallback)}: take overall, recent or none.")
        user_id = _user_id(user)
        wishes = _checked(PersonalWishes, asked.wishes | FALLBACKS[fallback] | {"explain": explain})

        from recserver.recommend.pipeline import items_of, recommend
        from recserver.recommend.query import Query

        model_id, _, model = opened_of(asked.data, asked.model_id)
        answer = recommend(model, user_id, Query.of(wishes))
        source = answer.source and answer.source.value
        told = {
            "model_id": model_id, "user_id": user_id, "items": items_of(answer),
            "n_recommendations": len(answer.items), "source": source, "model_version": model.model_version,
        }  # fmt: skip
        if as_json:
            print_json(told)
        else:
            _show(told)


def recommend_all(
    asked: Asked, *, user: str | None, out: str | None, table: str | None, alone: object, as_json: bool
) -> None:
    """Write the best items for every user that a model knows."""
    with failing_quietly():
        if user is not None or alone:
            raise WrongOption("A user, --fallback and --explain are for one user: leave them out with --all.")
        if out is None:
            raise WrongOption(f"--all needs --out: a file ending in {', '.join(ENDINGS)}, or a database's URL.")
        target = _table(asked, out, table) if "://" in out else _file(out, table)
        wishes = stated(_checked(ExportWishes, asked.wishes))
        model_id, path = packed_of(asked.data, asked.model_id)
        job = ExportJob(model_id=model_id, model=path, wishes=wishes, target=target)
        into = f"table {target.table}" if isinstance(target, TableTarget) else out
        result = _exported(job, Path(out))
        if as_json:
            print_json({"model_id": model_id, **result.model_dump()})
        else:
            told = f"{result.rows:,} rows for {result.users:,} users, of version {result.model_version} of model "
            console.print(printable(f"{told}{model_id}, are in {into}; {result.seconds:.1f} s."), markup=False)


def _exported(job: ExportJob, path: Path) -> ExportResult:
    """Do it, in this process, and put a file in its place."""
    from recserver.storage.atomic_files import put_in_place, unlink
    from recserver.training.export.export_worker import export

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # leaving nothing, as Ctrl-C
    with _following() as follow:
        if isinstance(job.target, TableTarget):
            return export(job, follow)
        try:
            result = export(job, follow)
            put_in_place(job.target.out, path)
        except OSError as error:
            raise InvalidInput(
                f"{shown(path)} cannot be written ({reason_of(error)}): check its folder."
            ) from None
        finally:
            unlink([job.target.out])
    return result


@contextmanager
def _following() -> Iterator[Callable[[ExportProgress], None]]:
    """A bar on standard error, if that is a terminal."""
    on = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = TextColumn("users"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=on, transient=True, disable=not on.is_terminal) as bar:
        work = bar.add_task("users", total=None)
        yield lambda seen: bar.update(work, total=seen.users, completed=seen.users_done)


def _file(out: str, table: str | None) -> FileTarget:
    from recserver.storage.atomic_files import temporary_beside

    path, ending = Path(out), ending_of(Path(out).name)
    if table is not None:
        raise WrongOption("--table is for a database: name one by its URL in --out, or leave it out.")
    if ending is None:
        raise WrongOption(f"--out {shown(out)} is no database's URL, and no file ending in {', '.join(ENDINGS)}.")
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent}: make it, or name another file with --out.")
    return FileTarget(out=temporary_beside(path), ending=ending)


def _table(asked: Asked, url: str, table: str | None) -> TableTarget:
    """A table of a database that whoever types this may write to: its file may lie anywhere."""
    from recserver.server.settings import load_settings

    try:
        check_table(table or USUAL_TABLE)
    except ValueError as error:
        raise WrongOption(f"--table {shown(table)}: {error}.") from None
    policy = load_settings().source_policy(asked.data.resolve())
    return TableTarget(table=table or USUAL_TABLE, database=url, policy=policy, base=Path.cwd())


def _checked(kind: Any, wishes: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(wishes)
    except ValidationError as error:
        from recserver.core.validation.messages import field_errors

        fault = field_errors(error)[0]
        name = str(fault.loc[0])
        raise WrongOption(f"{OPTIONS.get(name, f'--{name}')}: {fault.msg}.") from None


def _user_id(user: str) -> str:
    try:
        return entity_id(user)
    except ValueError as error:
        raise WrongOption(f"The user's id {error}.") from None


def _show(told: Mapping[str, Any]) -> None:
    source = told["source"] or "nothing, for the user is not known"
    heads = f"{told['model_id']}, version {told['model_version']}, for {told['user_id']}: {source}"
    console.print(printable(heads), markup=False)
    if not told["items"]:
        return
    explained = "because" in told["items"][0]
    table = Table("", "item", "score", *(["because of"] if explained else []))
    for rank, item in enumerate(told["items"], 1):
        why = ", ".join(f"{one['item_id']} {one['share']:.4g}" for one in item.get("because", ()))
        table.add_row(
            str(rank), cell(item["item_id"]), f"{item['score']:.6g}", *([cell(why or None)] if explained else [])
        )
    console.print(table)
