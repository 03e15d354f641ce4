"""Reading a database in the quick way and in the ordinary one, to see that a training learns the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from recserver._internal.chefs.protocol import Batch
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.chefs.sql import adbc_reader as adbc
from recserver._internal.core.errors import SourceFailed
from recserver._internal.training.ingest.source_reader import collect
from recserver._internal.training.jobs import TrainingJob

READERS = ("read_postgresql", "read_sqlite")
USUAL_TIME = {"timestamp_column": "timestamp"}


def learned(policy: SourcePolicy, entry: Mapping[str, Any]) -> object:
    """All that a training takes from a source, or why it fails, comparable.

    Examples of bad rows are left out: each way shows times and UUIDs in a spelling of its own there.
    """
    job = TrainingJob(
        model_id="m",
        model_version=1,
        algorithm="nmf",
        hyperparameters={},
        data_chef_id="c",
        data_chef={"type": "sql", **entry},
        policy=policy,
        out=policy.data_dir / "out",
    )
    try:
        got = collect(job, lambda _: None).interactions
    except SourceFailed as error:
        return (error.data_report or {}).get("rejected") or str(error)
    matrix = got.indptr.tolist(), got.indices.tolist(), got.ratings.tolist()
    return got.users, got.items, *matrix, got.rows_used, got.rejected


class Ways:
    """Which way is open, and how many rows came by the quick one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.quick_rows = 0
        self.quickly = True
        available = adbc.driver_available
        patch.setattr(adbc, "driver_available", lambda dialect: self.quickly and available(dialect))
        for name in READERS:
            patch.setattr(adbc, name, self._counting(getattr(adbc, name)))

    def _counting(self, reader: Any) -> Any:
        def count(*args: Any, **more: Any) -> Iterator[Batch]:
            for batch in reader(*args, **more):
                self.quick_rows += batch.n_rows
                yield batch

        return count

    def both(self, policy: SourcePolicy, entry: Mapping[str, Any]) -> object:
        """What both ways learn, after a check that it is the same; ``quick_rows`` tells of this reading then."""
        self.quickly, self.quick_rows = False, 0
        ordinarily = learned(policy, entry)
        assert self.quick_rows == 0
        self.quickly = True
        assert learned(policy, entry) == ordinarily
        return ordinarily
