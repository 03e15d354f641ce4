"""Reading a source through a data chef: its batches alone, and everything up to the interactions.

These functions are for :mod:`bench.fresh_process`: each sets up and returns the function to be timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.random_interactions import COLUMNS
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.sql import adbc_reader as adbc
from recserver._internal.training.ingest.source_reader import collect, open_chef
from recserver._internal.training.jobs import TrainingJob

MAX_SOURCE_BYTES = 2**32

Counts = tuple[int, ...]


def collect_interactions(folder: str, entry: str, small: str, driver: str = "adbc") -> Callable[[], Counts]:
    """Read, validate, sort and merge repeated pairs; the result has the numbers of rows, users and items.

    Args:
        entry: the definition of the data chef, as JSON.
        small: one of the same type with few rows. It is read first, so that lazy imports are not timed.
        driver: ``adbc``, where it is installed, or ``standard``.
    """
    _select_driver(driver)
    job = _job(Path(folder), json.loads(entry))
    collect(_job(Path(folder), json.loads(small)), lambda _: None)

    def read() -> Counts:
        interactions = collect(job, lambda _: None).interactions
        return interactions.rows_used, len(interactions.users), len(interactions.items)

    return read


def read_batches(folder: str, entry: str, small: str, driver: str = "adbc") -> Callable[[], Counts]:
    """Read all batches of a data chef, with all four columns; the result is the number of rows."""
    _select_driver(driver)
    _count(Path(folder), json.loads(small))
    return lambda: _count(Path(folder), json.loads(entry))


def _count(folder: Path, entry: dict[str, Any]) -> Counts:
    _, opened = open_chef(entry, _policy(folder))
    return (sum(batch.n_rows for batch in opened.batches(set(COLUMNS))),)


def _select_driver(driver: str) -> None:
    if driver == "standard":
        adbc.driver_available = lambda _: False
        return
    for dialect, name in adbc.DRIVERS.items():
        if adbc.driver_available(dialect):
            import_module(f"{name}.dbapi")


def _policy(folder: Path) -> SourcePolicy:
    return SourcePolicy(data_dir=folder, csv_roots=(Path("/"),), max_source_bytes=MAX_SOURCE_BYTES)


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
