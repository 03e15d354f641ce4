"""Previews over HTTP: real files, databases and servers, good and bad ones."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from recserver import RecServer, Settings
from recserver._internal.training.executors.process_pool import ProcessExecutor
from tests.helpers.api_client import Api, Serve

pytestmark = pytest.mark.process

ROWS = "userId,movieId,stars\n1,a,4.5\n,b,2\n3,c,5\n"
RENAMES = "userId->user_id,movieId->item_id,stars->rating"
KEYS = {"message", "raw", "renamed", "columns", "rejected", "examples", "replaced", "suggestions", "rows_read"}

Snapshot = Callable[[], dict[str, bytes]]


@pytest.fixture
async def films(api: Api) -> Api:
    """A client of a server with a file rows.csv, and a chef of it whose columns are not renamed."""
    (api.rec.data_dir / "rows.csv").write_text(ROWS)
    await api.ok("POST", "/create_data_chef_from_csv", {"data_chef_id": "films", "file_path": "rows.csv"})
    return api


@pytest.fixture
async def shop() -> AsyncIterator[str]:
    """A REST API that requires a token and repeats it; yields its URL."""

    async def rows(request: web.Request) -> web.Response:
        if request.query.get("token") != "canary-token":
            return web.json_response({"error": "who are you?"}, status=401)
        return web.json_response([{"userId": n, "sku": f"s{n}", "asked": str(request.url)} for n in range(30)])

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>canary-body</html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/rows", rows)
    app.router.add_get("/page", page)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize("path", ["/preview_data_chef?data_chef_id=films", "/preview_data_chef/films",
                                  "/preview_data_chef?name=films&rows=20"])  # fmt: skip
async def test_a_preview_of_a_stored_chef(films: Api, snapshot: Snapshot, path: str) -> None:
    before = snapshot()
    answer = await films.ok("GET", path)
    assert set(answer) == KEYS | {"data_chef_id"}
    assert answer["raw"] == [
        {"userId": "1", "movieId": "a", "stars": "4.5"},
        {"userId": "", "movieId": "b", "stars": "2"},
        {"userId": "3", "movieId": "c", "stars": "5"},
    ]
    assert answer["suggestions"] == [
        "There is no column user_id; found 'userId': add userId->user_id to rename_columns.",
        "There is no column item_id; found 'movieId': add movieId->item_id to rename_columns.",
        "Corrected rename_columns: userId->user_id,movieId->item_id",
        "Without a column rating every row counts 1; found 'stars': "
        "add stars->rating to rename_columns if it is that.",
        "With stars as the rating, rename_columns: userId->user_id,movieId->item_id,stars->rating",
    ]
    assert answer["message"] == (
        "The first 3 rows were read and 3 of them are shown. See suggestions for what to change."
    )
    assert snapshot() == before


@pytest.mark.parametrize("rows", ["1", "2", "1000"])
async def test_as_many_rows_as_asked_for(films: Api, rows: str) -> None:
    answer = await films.ok("GET", f"/preview_data_chef/films?rows={rows}")
    assert len(answer["raw"]) == len(answer["renamed"]) == min(3, int(rows))
    assert answer["rows_read"] == 3


@pytest.mark.parametrize("rows", ["0", "1001", "x", "1.5", "-1", ""])
async def test_other_numbers_of_rows_are_refused(films: Api, rows: str) -> None:
    answer = await films.get(f"/preview_data_chef/films?rows={rows}")
    assert (answer.status, answer.code, answer.locs) == (422, "validation_error", [["query", "rows"]])
    answer = await films.post("/validate_data_chef", {"type": "csv", "path": "rows.csv", "rows": rows})
    assert (answer.status, answer.code, answer.locs) == (422, "validation_error", [["body", "rows"]])


async def test_an_unknown_chef_is_not_found(films: Api) -> None:
    for path in ("/preview_data_chef/nobody", "/preview_data_chef?data_chef_id=FILMS"):
        answer = await films.get(path)
        assert (answer.status, answer.code) == (404, "data_chef_not_found")


@pytest.mark.parametrize(
    "definition",
    [
        {"type": "csv", "file_path": "rows.csv", "rename_columns": RENAMES},
        {"type": "CSV", "path": "rows.csv", "rename_columns": RENAMES, "overwrite": True, "name": "new"},
        {"type": "csv", "path": "rows.csv", "file_path": "rows.csv", "rename_columns": RENAMES, "delimiter": ","},
    ],
)
async def test_a_definition_is_checked_without_being_saved(
    films: Api, snapshot: Snapshot, definition: dict[str, Any]
) -> None:
    before = snapshot()
    answer = await films.ok("POST", "/validate_data_chef", definition)
    assert set(answer) == KEYS
    assert answer["renamed"] == [
        {"user_id": "1", "item_id": "a", "rating": 4.5},
        {"user_id": "", "item_id": "b", "rating": 2, "_rejected": "user_id is empty"},
        {"user_id": "3", "item_id": "c", "rating": 5},
    ]
    assert answer["rejected"] == {"user_id is empty": 1}
    assert answer["message"] == (
        "The first 3 rows were read and 3 of them are shown. A training would reject 1 of them."
    )
    assert snapshot() == before


async def test_unknown_fields_are_listed(films: Api) -> None:
    more = {f"x{n}": n for n in range(30)}
    body = {"type": "csv", "path": "rows.csv", "query": "SELECT 1", **more}
    warnings = (await films.ok("POST", "/validate_data_chef", body))["warnings"]
    assert warnings[0] == "'query' is not a field of csv data chefs and was ignored."
    assert (len(warnings), warnings[-1]) == (21, "11 more fields are unknown.")


async def test_misspelt_fields_get_a_suggestion(films: Api) -> None:
    body = {"type": "csv", "path": "rows.csv", "delimeter": ","}
    assert (await films.ok("POST", "/validate_data_chef", body))["warnings"] == [
        "'delimeter' is not a field of csv data chefs and was ignored: did you mean delimiter?"
    ]
    body = {"type": "sql", "query": "SELECT 1 AS user_id, 2 AS item_id",
            "db_config": {"type": "sqlite", "database": "shop.db", "pasword": "canary"}}  # fmt: skip
    sqlite3.connect(films.rec.data_dir / "shop.db").close()
    warning = "'db_config.pasword' is not a key of sql data chefs: did you mean db_config.password?"
    assert (await films.ok("POST", "/validate_data_chef", body))["warnings"] == [warning]
    created = await films.ok("POST", "/create_data_chef_from_sql", {"data_chef_id": "shop", **body})
    assert created["warnings"] == [warning, "The field 'type' is unknown and was ignored."]


async def test_unknown_keys_of_a_stored_entry_are_listed(films: Api) -> None:
    config = films.rec.data_dir / "config" / "restaurant_data.yaml"
    config.write_text(
        "a: {type: CSV, path: rows.csv, delimeter: ',', rename_column: x, note: of May, encoding: null}\n"
        "b: {type: api, url: 'http://127.0.0.1:1', pagination_param: p}\n"
        "c: {type: ours, delimeter: x}\n"
        f"d: {{type: csv, path: rows.csv, {', '.join(f'x{n}: {n}' for n in range(30))}}}\n"
        "e: {type: csv, path: rows.csv}\n"
    )
    warnings = [
        "'delimeter' is not a key of csv data chefs: did you mean delimiter?",
        "'rename_column' is not a key of csv data chefs: did you mean rename_columns?",
        "'note' is not a key of csv data chefs: leave it out.",
    ]
    assert (await films.ok("GET", "/preview_data_chef/a"))["warnings"] == warnings
    assert "warnings" not in await films.ok("GET", "/preview_data_chef/e")
    listed = await films.ok("GET", "/list_data_chefs")
    assert listed["a"]["warnings"] == warnings
    assert listed["b"]["warnings"] == [
        "'pagination_param' is not a key of api data chefs: did you mean page_param?"
    ]
    assert "warnings" not in listed["c"] and "warnings" not in listed["e"]
    assert (len(listed["d"]["warnings"]), listed["d"]["warnings"][-1]) == (21, "10 more keys are unknown.")
    again = await films.ok("POST", "/validate_data_chef", {**listed["a"], "error": "x"})
    assert [one.partition(" is not a field")[0] for one in again["warnings"]] == [
        "'delimeter'", "'rename_column'", "'note'",
    ]  # fmt: skip


async def test_invalid_ratings_are_in_the_message(films: Api) -> None:
    (films.rec.data_dir / "rows.csv").write_text("user_id;item_id;rating\nann;tea;0,5\n" * 1)
    answer = await films.ok("GET", "/preview_data_chef/films")
    assert answer["replaced"] == {"rating is not a number": 1}
    assert answer["message"] == (
        "The first 1 rows were read and 1 of them are shown. In 1 of them the rating is not a number, so that it "
        "counts 1. See suggestions for what to change."
    )


async def test_an_entry_without_a_type_is_listed_with_an_error(films: Api) -> None:
    config = films.rec.data_dir / "config" / "restaurant_data.yaml"
    config.write_text("a: {path: rows.csv}\nb: {type: null, path: rows.csv}\n")
    for entry in (await films.ok("GET", "/list_data_chefs")).values():
        assert (entry["type"], entry["error"]) == ("unknown", "type: is missing: set it to csv, sql or api.")


@pytest.mark.parametrize(
    ("definition", "locs"),
    [
        ({}, [["body", "type"]]),
        ({"type": 5, "rows": "x"}, [["body", "type"], ["body", "rows"]]),
        ({"type": "cvs", "path": "rows.csv"}, [["body", "type"]]),
        ({"type": ""}, [["body", "type"]]),
        ({"type": "csv"}, [["body", "file_path"]]),
        ({"type": "csv", "path": 5, "constant_rating": "x"}, [["body", "constant_rating"], ["body", "path"]]),
        ({"type": "csv", "path": "a.csv", "file_path": "b.csv"}, [["body", "file_path"]]),
        ({"type": "csv", "path": "../x"}, [["body", "path"]]),
        ({"type": "csv", "file_path": "/etc/passwd"}, [["body", "file_path"]]),
        ({"type": "csv", "path": "rows.csv", "delimiter": ";;"}, [["body", "delimiter"]]),
        ({"type": "csv", "path": "rows.csv", "rename_columns": "a"}, [["body", "rename_columns"]]),
        ({"type": "csv", "path": "rows.csv", "event_column": "kind"}, [["body"]]),
        ({"type": "sql"}, [["body", "query"]]),
        ({"type": "sql", "query": "DROP TABLE x"}, [["body", "query"]]),
        ({"type": "sql", "query": "SELECT 1", "db_config": []}, [["body", "db_config"]]),
        ({"type": "api", "api_endpoint": "ftp://x"}, [["body", "api_endpoint"]]),
        ({"type": "api", "url": "http://169.254.169.254/"}, [["body", "url"]]),
        ({"type": "api", "url": "http://x.example", "size_value": 0}, [["body", "size_value"]]),
        ({"type": "api", "url": "http://x.example", "paginated": True, "page_size": 0}, [["body", "page_size"]]),
        ({"type": "api", "url": "http://x.example", "page_size": 5, "size_value": 6}, [["body", "size_value"]]),
        ({"type": "csv", "path": "rows.csv", "self": 1}, [["body", "self"]]),
    ],
)
async def test_a_bad_definition_names_the_fields_of_the_request(
    films: Api, definition: dict[str, Any], locs: list[list[str]]
) -> None:
    answer = await films.post("/validate_data_chef", definition)
    assert (answer.status, answer.code) == (422, "validation_error"), answer.body
    assert sorted(answer.locs) == sorted(locs)


async def test_the_reason_of_an_unreadable_source_is_returned(films: Api) -> None:
    await films.ok("POST", "/create_data_chef_from_csv", {"data_chef_id": "gone", "file_path": "gone.csv"})
    answer = await films.get("/preview_data_chef/gone")
    assert (answer.status, answer.code, answer.locs) == (422, "source_failed", [["path", "data_chef_id"]])
    assert answer.body["error"].startswith("There is no file 'gone.csv'")
    answer = await films.post("/validate_data_chef", {"type": "csv", "path": "gone.csv"})
    assert (answer.status, answer.code, answer.locs) == (422, "source_failed", [["body"]])


async def test_an_invalid_entry_is_listed_with_an_error(films: Api) -> None:
    config = films.rec.data_dir / "config" / "restaurant_data.yaml"
    config.write_text("a: {type: csv}\nb: {path: x}\nc: {type: csv, path: rows.csv, half_life_days: -1}\nd: 5\n")
    for name, sentence in (
        ("a", "path: is missing."),
        ("b", "type: is missing: set it to csv, sql or api."),
        ("c", "half_life_days: must be days, more than 0 and at most 36600."),
        ("d", "type: is missing: set it to csv, sql or api."),
    ):
        answer = await films.get(f"/preview_data_chef/{name}")
        assert (answer.status, answer.code) == (422, "source_failed")
        assert answer.body["error"] == f"The data chef cannot be used: {sentence}"


@pytest.mark.parametrize("content", ["", "\n\n", "user_id,item_id\n"])
async def test_an_empty_source(films: Api, content: str) -> None:
    (films.rec.data_dir / "rows.csv").write_text(content)
    answer = await films.get("/preview_data_chef/films")
    if content.strip():
        assert answer.body["message"] == "The source was reached and holds no rows."
        assert answer.body["suggestions"]
    else:
        assert (answer.status, answer.code) == (422, "source_failed")
        assert "is empty" in answer.body["error"]


async def test_a_database(films: Api) -> None:
    with sqlite3.connect(films.rec.data_dir / "shop.db") as database:
        database.execute("CREATE TABLE orders (customer INTEGER, product TEXT, price REAL, raw BLOB)")
        database.execute("INSERT INTO orders VALUES (7, 'p', 1.5, x'00ff'), (NULL, 'q', NULL, NULL)")
    database.close()
    body = {"type": "sql", "query": "SELECT * FROM orders", "rename_columns": "customer->user_id,product->item_id",
            "db_config": {"type": "sqlite", "database": "shop.db"}}  # fmt: skip
    answer = await films.ok("POST", "/validate_data_chef", body)
    assert answer["raw"] == [
        {"customer": 7, "product": "p", "price": 1.5, "raw": "00ff"},
        {"customer": None, "product": "q", "price": None, "raw": None},
    ]
    assert [row["user_id"] for row in answer["renamed"]] == ["7", None]
    assert answer["rejected"] == {"user_id is missing": 1}
    missing = await films.post("/validate_data_chef", body | {"query": "SELECT * FROM order_lines"})
    assert (missing.status, missing.code) == (422, "source_failed")
    assert "order_lines" in missing.body["error"]


async def test_an_unreachable_database_does_not_expose_its_password(films: Api) -> None:
    body = {"type": "sql", "query": "SELECT 1", "connection": "postgresql://reader:canary@127.0.0.1:1/shop"}
    answer = await films.post("/validate_data_chef", body)
    assert (answer.status, answer.code) == (422, "source_failed")
    assert "canary" not in json.dumps(answer.body)


async def test_secrets_that_a_rest_source_repeats_are_masked(films: Api, shop: str) -> None:
    body = {"type": "api", "url": f"{shop}rows?token=canary-token", "rename_columns": "sku->item_id"}
    answer = await films.ok("POST", "/validate_data_chef", body)
    assert (len(answer["raw"]), answer["rows_read"]) == (20, 30)
    assert answer["raw"][0]["userId"] == 0
    assert "Corrected rename_columns: sku->item_id,userId->user_id" in answer["suggestions"]
    assert "canary" not in json.dumps(answer)


async def test_masked_secrets_are_those_of_the_stored_chef(films: Api, shop: str) -> None:
    stored = {"data_chef_id": "api", "url": f"{shop}rows?token=canary-token"}
    await films.ok("POST", "/create_data_chef_from_api", stored)
    listed = (await films.ok("GET", "/list_data_chefs"))["api"]
    assert "********" in listed["url"]
    answer = await films.ok("POST", "/validate_data_chef", {"data_chef_id": "api", **listed})
    assert answer["rows_read"] == 30 and "canary" not in json.dumps(answer)
    for refused in (
        listed,
        {"data_chef_id": "nobody", **listed},
        {"data_chef_id": "api", **listed, "url": listed["url"].replace("127.0.0.1", "localhost")},
    ):
        answer_to = await films.post("/validate_data_chef", refused)
        assert (answer_to.status, answer_to.code, answer_to.locs) == (422, "validation_error", [["body", "url"]])


async def test_a_rest_source_that_fails(films: Api, shop: str) -> None:
    for path, part in (("rows?token=canary-wrong", "401"), ("page", "JSON"), ("none", "404")):
        answer = await films.post("/validate_data_chef", {"type": "api", "url": shop + path})
        assert (answer.status, answer.code) == (422, "source_failed")
        assert part in answer.body["error"]
        assert "canary" not in json.dumps(answer.body)


@pytest.mark.slow
async def test_a_source_that_never_responds_is_stopped(serve: Serve, data_dir: Path, settings: Settings) -> None:
    accepted: list[Any] = []

    async def hang(*streams: Any) -> None:
        accepted.append(streams)

    source = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = source.sockets[0].getsockname()[1]
    pool = ProcessExecutor(1, priority="low", preview_seconds=4)
    api = await serve(RecServer(data_dir, settings, executor=pool))
    answer = await api.post("/validate_data_chef", {"type": "api", "url": f"http://127.0.0.1:{port}/"})
    assert (answer.status, answer.code) == (422, "source_failed")
    assert answer.body["error"].startswith(
        "The source gave too few rows within 4 seconds, so the preview was ended"
    )
    assert pool.pids == []
    assert (await api.ok("GET", "/health"))["status"] == "ok"
    for _, writer in accepted:
        writer.close()
    source.close()


@pytest.mark.slow
async def test_a_preview_by_a_worker_process_is_limited(serve: Serve, data_dir: Path, settings: Settings) -> None:
    api = await serve(RecServer(data_dir, settings))
    names = ",".join(f"{'ü' * 100}{n}" for n in range(300))
    wide = "€" * 500 + ","
    (data_dir / "rows.csv").write_text(f"user_id,item_id,{names}\n" + f"u,i,{wide * 299}x\n" * 50)
    answer = await api.ok("POST", "/validate_data_chef", {"type": "csv", "path": "rows.csv", "rows": 1000})
    assert answer["rows_read"] == 50
    assert 0 < len(answer["raw"]) < 50
