"""The built-in data chefs pass the conformance suite for plug-ins."""

from __future__ import annotations

import csv
import gzip
import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from aiohttp import web
from pyarrow import ipc, parquet

from recserver._internal.chefs.rest import rest_chef as api
from recserver._internal.chefs.sql import row_batches as sql_rows
from recserver._internal.chefs.sql import sql_chef as sql
from recserver.testing import DataChefSuite
from tests.helpers.http_site import Site
from tests.helpers.shared_worker import one_worker_serves_all_tests

CANARY = "c4n4ry-Pa55word"

Entry = dict[str, Any]

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", autouse=True)
def one_worker() -> Iterator[None]:
    with one_worker_serves_all_tests():
        yield


class TestCsv(DataChefSuite):
    unusable: ClassVar = [{"type": "csv"}, {"type": "csv", "path": "../x.csv"}, {"type": "csv", "path": 5}]
    missing: ClassVar = {"type": "csv", "path": "absent.csv"}
    name = "rows.csv"

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        opened = gzip.open if self.name.endswith(".gz") else open
        with opened(data_dir / self.name, "wt", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        return {"type": "csv", "path": self.name}


class TestCompressedCsv(TestCsv):
    name = "rows.csv.gz"


class TestJsonLines(TestCsv):
    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        lines = (json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        (data_dir / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
        return {"type": "csv", "path": "rows.jsonl"}


def text_table(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """A table in which each column has one type, so ids are text."""
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return pa.table(
        {
            name: pa.array([None if one is None else str(one) for one in column], pa.string())
            for name, column in zip(columns, values, strict=True)
        }
    )


class TestParquet(TestCsv):
    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        parquet.write_table(text_table(columns, rows), data_dir / "rows.parquet")
        return {"type": "csv", "path": "rows.parquet"}


class TestArrow(TestCsv):
    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        table = text_table(columns, rows)
        with ipc.new_file(data_dir / "rows.arrow", table.schema) as file:
            file.write_table(table)
        return {"type": "csv", "path": "rows.arrow"}


class TestSqlite(DataChefSuite):
    unusable: ClassVar = [
        {"type": "sql"},
        {"type": "sql", "query": "DELETE FROM t", "connection": "sqlite:///shop.db"},
        {"type": "sql", "query": "SELECT 1", "connection": "sqlite:////etc/shop.db"},
    ]
    missing: ClassVar = {"type": "sql", "query": "SELECT 1", "connection": "sqlite:///absent.db"}
    max_batch_rows = sql.FETCH_ROWS

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        names, marks = ", ".join(columns), ", ".join("?" for _ in columns)
        with closing(sqlite3.connect(data_dir / "shop.db")) as database, database:
            database.execute("DROP TABLE IF EXISTS t")
            database.execute(f"CREATE TABLE t ({names})")
            database.executemany(f"INSERT INTO t VALUES ({marks})", rows)
        return {"type": "sql", "query": "SELECT * FROM t", "connection": "sqlite:///shop.db"}


class TestSqliteQuickly(TestSqlite):
    """By its ADBC driver, where that can be. And the missing source is a server that does not answer."""

    missing: ClassVar = {
        "type": "sql",
        "query": "SELECT 1",
        "connection": f"postgresql://reader:{CANARY}@127.0.0.1:1/shop",
    }
    secret = CANARY

    @pytest.fixture(autouse=True)
    def few_rows_are_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sql_rows, "FAST_PATH_MIN_ROWS", 3)


class TestRest(DataChefSuite):
    unusable: ClassVar = [{"type": "api"}, {"type": "api", "url": "file:///etc/passwd"}]
    missing: ClassVar = {
        "type": "api",
        "url": "http://127.0.0.1:1/rows",
        "auth": {"type": "bearer", "token": CANARY},
    }
    secret = CANARY
    max_batch_rows = 1200  # an answer of less than api.LARGEST_WHOLE bytes is one batch

    @pytest.fixture(autouse=True)
    def site_is_there(self, site: Site) -> None:
        self.site = site

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        self.site.gives(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]).encode())
        return {"type": "api", "url": self.site.url}

    def contact_count(self) -> int:
        return len(self.site.requests)

    def open_handles(self) -> int:
        """The site runs in this process: only connections to it count, not its own handles."""
        return sum(self._leads_there(int(one)) for one in os.listdir("/dev/fd"))  # noqa: PTH208

    def _leads_there(self, descriptor: int) -> bool:
        try:
            with socket.socket(fileno=os.dup(descriptor)) as copy:
                return bool(copy.getpeername()[1] == self.site.port)
        except (OSError, IndexError):
            return False


class TestRestInPages(TestRest):
    max_batch_rows = 200

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        items = [dict(zip(columns, row, strict=True)) for row in rows]
        self.site.pages(lambda page, size: {"items": items[(page - 1) * size : page * size]})
        return {"type": "api", "url": self.site.url, "paginated": True}


class TestRestInLines(TestRest):
    """One answer that is taken apart as it arrives, as a large one is."""

    max_batch_rows = 1000

    @pytest.fixture(autouse=True)
    def every_answer_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api, "MAX_BUFFERED_BYTES", 100)

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for row in rows:
                await response.write(json.dumps(dict(zip(columns, row, strict=True))).encode() + b"\n")
            return response

        self.site.answer = answer
        return {"type": "api", "url": self.site.url}
