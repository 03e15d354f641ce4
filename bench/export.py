"""Exporting the top ten of 100,000 users into each type of target, each in a fresh process, as in a worker."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.fresh_process import NOTE, Measurement, measure_in_process
from bench.models import write_random_model
from bench.report import report_rows
from bench.settings import rounds
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.training.export.export_job import (
    EXTENSIONS,
    ExportJob,
    FileTarget,
    TableTarget,
    WriteRows,
)

USERS, ITEMS, FACTORS, SEEN = 100_000, 10_000, 64, 50


async def main() -> None:
    with tempfile.TemporaryDirectory() as name, _servers() as urls:
        folder = Path(name)
        write_random_model(folder / "bench.pkl", USERS, ITEMS, FACTORS, seen=SEEN)
        targets = {"no output": "", **{extension: extension for extension in EXTENSIONS}, **urls}
        exports: dict[str, list[Measurement]] = {label: [] for label in targets}
        for _ in range(rounds(3)):
            for label, target in targets.items():
                exports[label].append(await measure_in_process("bench.export:prepare_export", folder, target))
    rows = [
        {
            "target": label,
            "seconds": (seconds := statistics.median(export.seconds for export in repeats)),
            "min": min(export.seconds for export in repeats),
            "max": max(export.seconds for export in repeats),
            "rows/s": repeats[0].result["rows"] / seconds,
            "MB": repeats[0].result["megabytes"],
            "peak MiB": statistics.median(export.peak for export in repeats),
        }
        for label, repeats in exports.items()
    ]
    title = f"export: top 10 of {USERS:,} users x {ITEMS:,} items x {FACTORS}, {SEEN} seen items per user"
    report_rows(title, rows, f"{NOTE}; from the second round on, tables are replaced")


@contextmanager
def _servers() -> Iterator[dict[str, str]]:
    """Start the database servers that are installed; yields the URL of each database."""
    from tests.helpers import database_servers as servers

    urls = {"SQLite": "sqlite:///top.db"}
    with ExitStack() as stack:
        for kind, name, start in (
            ("postgresql", "PostgreSQL", servers.postgresql), ("mysql", "MariaDB", servers.mariadb),
        ):  # fmt: skip
            if missing := servers.missing(kind):
                print(f"export {name}: skipped; {missing}")
            else:
                urls[name] = stack.enter_context(start()).dsn()
        yield urls


def prepare_export(folder: str, target: str) -> Callable[[], Callable[[], dict[str, float]]]:
    """For :mod:`bench.fresh_process`: set up an export to a file extension, a database URL or nowhere."""
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401 - imports are not timed
    import sqlalchemy  # noqa: F401

    from recserver._internal.training.export import export_worker as exports
    from recserver._internal.training.export import file_export as export_files
    from recserver._internal.training.export import table_export as export_tables  # noqa: F401

    extension = target or ".csv"
    file = Path(folder) / f"top{extension}"
    if extension.startswith("."):
        file.unlink(missing_ok=True)
        export_target: FileTarget | TableTarget = FileTarget(out=file, extension=extension)
    else:
        export_target = TableTarget(table="top", database=target, policy=SourcePolicy(data_dir=Path(folder)))
    job = ExportJob(model_id="bench", model=Path(folder) / "bench.pkl", options={}, target=export_target)

    @contextmanager
    def discard_rows(*_: object) -> Iterator[WriteRows]:
        yield lambda rows: None

    if not target:
        export_files.open_file_target = discard_rows

    def export() -> Callable[[], dict[str, float]]:
        result = exports.export(job, lambda _: None)
        return lambda: {
            "rows": result.rows,
            "megabytes": file.stat().st_size / 1e6 if file.exists() else float("nan"),
        }

    return export
