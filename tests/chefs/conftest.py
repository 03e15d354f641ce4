"""Fixtures: a policy with its own data folder, database servers, and a function that reads a chef completely."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina.instrumentation

from recserver._internal.chefs.protocol import Chef
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.training.ingest.id_encoding import to_list
from tests.helpers import database_servers as servers
from tests.helpers.database_servers import Server
from tests.helpers.http_site import Site
from tests.helpers.sql_readers import Ways

USUAL = ("user_id", "item_id", "rating")


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Failed requests are retried without delay."""
    stamina.instrumentation.set_on_retry_hooks([])
    with stamina.set_testing(True, attempts=3, cap=True):
        yield
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture(autouse=True)
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not load the certificates of the system for connections to MariaDB: the server's are self-signed."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with the folders of recserver."""
    folder = tmp_path / "data"
    for name in ("models", "tasks", "config"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture
def site() -> Iterator[Site]:
    """An HTTP server in another thread."""
    running = Site()
    yield running
    running.close()


@pytest.fixture
def policy(data_dir: Path) -> SourcePolicy:
    return SourcePolicy(data_dir=data_dir, source_timeout=20.0)


Table = tuple[tuple[str, ...], dict[str, list[Any]]]


def read_all(chef: Chef, requested: Collection[str] | None = USUAL) -> Table:
    """All column names, and all values of each column; checks that batches are well-formed."""
    found: tuple[str, ...] = ()
    columns: dict[str, list[Any]] = {}
    rows = 0
    for batch in chef.batches(requested):
        found = batch.column_names
        assert set(batch.columns) <= set(found) & set(found if requested is None else requested)
        assert len({len(column) for column in batch.columns.values()}) <= 1
        for name, column in batch.columns.items():
            columns.setdefault(name, [None] * rows).extend(to_list(column))
        rows += batch.n_rows
    return found, columns


@pytest.fixture
def table() -> Callable[..., Table]:
    return read_all


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server for this test run."""
    if reason := servers.missing("postgresql"):
        pytest.skip(reason)
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server for this test run."""
    if reason := servers.missing("mysql"):
        pytest.skip(reason)
    with servers.mariadb() as server:
        yield server


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the two servers."""
    running: Server = request.getfixturevalue({"mysql": "mariadb"}.get(request.param, request.param))
    return running


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    """Enables and disables the fast path, and counts its rows."""
    return Ways(monkeypatch)


@pytest.fixture(params=["postgresql, fast path", "postgresql", "mysql"])
def way(request: pytest.FixtureRequest, ways: Ways) -> Server:
    """A server and a path to it: the fast path exists for PostgreSQL only."""
    kind = request.param.partition(",")[0]
    ways.quickly = request.param.endswith("fast path")
    running: Server = request.getfixturevalue({"mysql": "mariadb"}.get(kind, kind))
    return running
