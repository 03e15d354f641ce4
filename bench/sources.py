"""What is measured of our own reading: a chef to its end, and everything up to the interactions.

These functions run in children of :mod:`bench.child`: they prepare, and return what is timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.rows import COLUMNS
from recserver.chefs.source_policy import SourcePolicy
from recserver.chefs.sql import adbc_reader as adbc
from recserver.training.ingest.source_reader import collect, open_chef
from recserver.training.jobs import TrainingJob

LARGEST_SOURCE = 2**32

Counts = tuple[int, ...]


def collecting(folder: str, entry: str, few: str, way: str = "quick") -> Callable[[], Counts]:
    """Rows, users and items, after reading, judging, sorting, and making repeated pairs one.

    Args:
        entry: of the data chef, as JSON. ``few`` is one of the same kind with few rows: reading it first
            imports what is imported late.
        way: ``ordinary`` forbids ADBC drivers.
    """
    _choose(way)
    job = _job(Path(folder), json.loads(entry))
    collect(_job(Path(folder), json.loads(few)), lambda _: None)

    def work() -> Counts:
        found = collect(job, lambda _: None).interactions
        return found.rows_used, len(found.users), len(found.items)

    return work


def chef(folder: str, entry: str, few: str, way: str = "quick") -> Callable[[], Counts]:
    """The rows of all batches of a chef, with all four columns."""
    _choose(way)
    _count(Path(folder), json.loads(few))
    return lambda: _count(Path(folder), json.loads(entry))


def _count(folder: Path, entry: dict[str, Any]) -> Counts:
    _, opened = open_chef(entry, _policy(folder))
    return (sum(batch.n_rows for batch in opened.batches(set(COLUMNS))),)


def _choose(way: str) -> None:
    if way == "ordinary":
        adbc.driver_available = lambda _: False
        return
    for dialect, name in adbc.DRIVERS.items():
        if adbc.driver_available(dialect):
            import_module(f"{name}.dbapi")


def _policy(folder: Path) -> SourcePolicy:
    return SourcePolicy(data_dir=folder, csv_roots=(Path("/"),), max_source_bytes=LARGEST_SOURCE)


def _job(folder: Path, entry: dict[str, Any]) -> TrainingJob:
    return TrainingJob(
        model_id="m",
        model_version=1,
        algorithm="nmf",
        hyperparameters={},
        data_chef_id="c",
        data_chef=entry,
        policy=_policy(folder),
        out=folder / ".bench.tmp",
    )
