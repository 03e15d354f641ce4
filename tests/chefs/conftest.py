"""A policy over a folder of its own, and a short way to read a chef."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina.instrumentation

from recserver.chefs.protocol import Chef
from recserver.chefs.source_policy import SourcePolicy
from recserver.training.ingest.id_encoding import to_list
from tests.helpers import database_servers as servers
from tests.helpers.database_servers import Server
from tests.helpers.http_site import Site
from tests.helpers.sql_readers import Ways

USUAL = ("user_id", "item_id", "rating")


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Failed requests are tried again as often as ever, but at once."""
    stamina.instrumentation.set_on_retry_hooks([])
    with stamina.set_testing(True, attempts=3, cap=True):
        yield
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture(autouse=True)
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads the certificates of the system, as every connection to MariaDB would: ours are self-signed."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with recserver's own three folders in it."""
    folder = tmp_path / "data"
    for name in ("models", "tasks", "config"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture
def site() -> Iterator[Site]:
    """An HTTP server in a thread of its own."""
    running = Site()
    yield running
    running.close()


@pytest.fixture
def policy(data_dir: Path) -> SourcePolicy:
    return SourcePolicy(data_dir=data_dir, source_timeout=20.0)


Table = tuple[tuple[str, ...], dict[str, list[Any]]]


def read_all(chef: Chef, wanted: Collection[str] | None = USUAL) -> Table:
    """(found, columns): every batch of the chef put together; checks that its batches are well formed."""
    found: tuple[str, ...] = ()
    columns: dict[str, list[Any]] = {}
    rows = 0
    for batch in chef.batches(wanted):
        found = batch.column_names
        assert set(batch.columns) <= set(found) & set(found if wanted is None else wanted)
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
    """A PostgreSQL server of this run of the tests."""
    if reason := servers.missing("postgresql"):
        pytest.skip(reason)
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server of this run of the tests."""
    if reason := servers.missing("mysql"):
        pytest.skip(reason)
    with servers.mariadb() as server:
        yield server


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    """Both servers, one after the other."""
    running: Server = request.getfixturevalue({"mysql": "mariadb"}.get(request.param, request.param))
    return running


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    """Opens and closes the quick way, and counts what comes by it."""
    return Ways(monkeypatch)


@pytest.fixture(params=["postgresql quickly", "postgresql", "mysql"])
def way(request: pytest.FixtureRequest, ways: Ways) -> Server:
    """A server, and the way to it: a quick one exists for PostgreSQL only."""
    kind, _, how = request.param.partition(" ")
    ways.quickly = how == "quickly"
    running: Server = request.getfixturevalue({"mysql": "mariadb"}.get(kind, kind))
    return running
