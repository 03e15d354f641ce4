"""Exports of the top ten of 100,000 users into each kind of target, each in a fresh process, as in a worker."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.child import NOTE, Measured, measured
from bench.models import write_model
from bench.report import report_rows
from bench.rows import rounds
from recserver.chefs.source_policy import SourcePolicy
from recserver.training.export.export_job import EXTENSIONS, ExportJob, FileTarget, TableTarget, WriteRows

USERS, ITEMS, FACTORS, SEEN = 100_000, 10_000, 64, 50


async def main() -> None:
    with tempfile.TemporaryDirectory() as name, _servers() as urls:
        folder = Path(name)
        write_model(folder / "bench.pkl", USERS, ITEMS, FACTORS, seen=SEEN)
        targets = {"nothing, only computed": "", **{one: one for one in EXTENSIONS}, **urls}
        found: dict[str, list[Measured]] = {target: [] for target in targets}
        for _ in range(rounds(3)):
            for target, how in targets.items():
                found[target].append(await measured("bench.export:prepared", folder, how))
    rows = [
        {
            "into": target,
            "seconds": (seconds := statistics.median(one.seconds for one in all_of_it)),
            "lowest": min(one.seconds for one in all_of_it),
            "highest": max(one.seconds for one in all_of_it),
            "rows/s": all_of_it[0].answer["rows"] / seconds,
            "MB": all_of_it[0].answer["megabytes"],
            "peak MiB": statistics.median(one.peak for one in all_of_it),
        }
        for target, all_of_it in found.items()
    ]
    title = f"export: top 10 of {USERS:,} users x {ITEMS:,} items x {FACTORS}, {SEEN} seen items each"
    report_rows(title, rows, f"{NOTE}; a table is replaced from the second round on")


@contextmanager
def _servers() -> Iterator[dict[str, str]]:
    """The addresses of database servers of our own, those that are installed."""
    from tests.helpers import database_servers as servers

    urls = {"SQLite": "sqlite:///top.db"}
    with ExitStack() as stack:
        for kind, name, start in (
            ("postgresql", "PostgreSQL", servers.postgresql), ("mysql", "MariaDB", servers.mariadb),
        ):  # fmt: skip
            if missing := servers.missing(kind):
                print(f"export {name}: left out; {missing}")
            else:
                urls[name] = stack.enter_context(start()).dsn()
        yield urls


def prepared(folder: str, how: str) -> Callable[[], Callable[[], dict[str, float]]]:
    """An export that is ready to begin."""
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401 - imports are not measured
    import sqlalchemy  # noqa: F401

    from recserver.training.export import export_worker as exports
    from recserver.training.export import file_export as export_files
    from recserver.training.export import table_export as export_tables  # noqa: F401

    file = Path(folder) / f"top{how or '.csv'}"
    if how.startswith(".") or not how:
        file.unlink(missing_ok=True)
        target: FileTarget | TableTarget = FileTarget(out=file, extension=how or ".csv")
    else:
        target = TableTarget(table="top", database=how, policy=SourcePolicy(data_dir=Path(folder)))
    job = ExportJob(model_id="bench", model=Path(folder) / "bench.pkl", options={}, target=target)

    @contextmanager
    def nowhere(*_: object) -> Iterator[WriteRows]:
        yield lambda rows: None

    if not how:
        export_files.open_file_target = nowhere

    def work() -> Callable[[], dict[str, float]]:
        result = exports.export(job, lambda _: None)
        return lambda: {
            "rows": result.rows,
            "megabytes": file.stat().st_size / 1e6 if file.exists() else float("nan"),
        }

    return work
