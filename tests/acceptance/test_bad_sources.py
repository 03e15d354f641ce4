"""Broken sources are reported, and the serving model keeps serving."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import json
import lzma
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from pyarrow import feather, parquet

from recserver import RecServer, Settings
from recserver._internal.core.events import RunEnded

HEADER = b"user_id,item_id,rating\n"
GOOD = HEADER + b"ann,tea,5\nann,scone,3\nbob,tea,4\nbob,latte,2\ncid,scone,1\n"
MANY = HEADER + b"".join(b"u%d,i%d,%d\n" % (n % 89, n % 13, n % 5) for n in range(5_000))
ROW = {"user_id": "ann", "item_id": "tea"}
MODEL = {"algorithm": "nmf", "hyperparameters": {"n_components": 2, "max_iter": 20}}

MAX_FILE, MAX_SOURCE = 40_000_000, 2_000_000
LIMITS: dict[str, Any] = {
    "port": 0, "training_processes": 1, "max_file_bytes": MAX_FILE, "max_source_bytes": MAX_SOURCE,
}  # fmt: skip


@pytest.fixture
def settings() -> Settings:
    """Limits that are quickly reached."""
    return Settings(**LIMITS)


class Kitchen:
    """A server with one trained model, whose data chef is replaced again and again."""

    def __init__(self, rec: RecServer, http: ClientSession) -> None:
        self.rec, self.http = rec, http
        self._runs = 0

    async def open(self) -> None:
        """Train the model on good data."""
        (self.rec.data_dir / "good.csv").write_bytes(GOOD)
        await self.rec.create_model("m", **MODEL)
        assert (await self.run(self.rec.create_data_chef_from_csv, file_path="good.csv")).outcome == "completed"
        self.before = self.files()

    async def run(self, create: Callable[..., Awaitable[Any]], model_id: str = "m", **chef: Any) -> RunEnded:
        """Replace the chef, and run a new task: a paused one, by hand, so that nothing is to be waited for."""
        self._runs += 1
        task = f"t{self._runs}"
        await create("c", overwrite=True, **chef)
        await self.rec.add_model_task(task, model_id=model_id, data_chef_id="c", interval=3600, enabled=False)
        with self.rec.events.listen() as events:
            await self.rec.run_task(task)
            ended = await events.next(RunEnded)
        assert (await self.get("/list_tasks"))[task]["last_error"] == ended.error
        await self.rec.remove_model_task(task)
        return ended

    def files(self) -> dict[str, Any]:
        """What must not change: the model, its metadata, and its configuration but for how the last run went."""
        models = self.rec.data_dir / "models"
        config = json.loads((models / "m_config.json").read_text())
        of_the_last_run = {"status", "error", "failed_at"}
        return {
            "pkl": (models / "m.pkl").read_bytes(),
            "metadata": (models / "m_metadata.json").read_bytes(),
            "config": {key: config[key] for key in config.keys() - of_the_last_run},
        }

    async def fails(self, create: Callable[..., Awaitable[Any]], **chef: Any) -> str:
        """What a run of a bad source says. Nothing else may have happened."""
        ended = await self.run(create, **chef)
        assert (ended.outcome, ended.model_version) == ("failed", None)
        await self.is_unharmed(ended.error)
        return str(ended.error)

    async def is_unharmed(self, error: str | None) -> None:
        assert self.files() == self.before
        answer = await self.get("/recommend/ann/m")
        assert (answer["model_version"], answer["source"]) == (1, "personal")
        info = await self.get("/get_model_info/m")
        assert info.get("error") == error

    async def get(self, path: str) -> Any:
        async with self.http.get(path) as response:
            answer = await response.json()
        assert response.status == 200, answer
        return answer


@pytest.fixture
async def kitchen(rec: RecServer) -> AsyncIterator[Kitchen]:
    async with rec.serve() as url, ClientSession(url) as http:
        kitchen = Kitchen(rec, http)
        await kitchen.open()
        yield kitchen


def is_a_sentence(text: str) -> bool:
    """No trace of a library, and an end."""
    foreign = re.search(r"Traceback|[a-z](Error|Exception)|Errno|0x|pyarrow|pandas|aiohttp", text)
    return text.endswith((".", "->item_id")) and foreign is None


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return packed


def parquet_file() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"user_id": [f"u{n % 89}" for n in range(900)], "item_id": ["i"] * 900}), sink)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def arrow_file() -> bytes:
    sink = pa.BufferOutputStream()
    feather.write_feather(pa.table({"user_id": [f"u{n % 89}" for n in range(900)], "item_id": ["i"] * 900}), sink)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


LINE = b'{"user_id": "u", "item_id": "i"}\n'

BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.csv", b"", "is empty"),
    "header only": ("x.csv", HEADER, "holds no rows"),
    "wrong delimiter": ("x.csv", MANY.replace(b",", b"~"), "no column user_id"),
    "not UTF-8": ("x.csv", MANY + b"\xff,i,1\n", "not UTF-8 at line 5002"),
    "UTF-16 without a mark": ("x.csv", MANY.decode().encode("utf-16-le"), "utf-16-le"),
    "UTF-16 cut off": ("x.csv", MANY.decode().encode("utf-16")[:-1], "not utf-16"),
    "open quote": ("x.csv", MANY + b'"u,i,1\n' + MANY, "quote in data row 5001 that is never closed"),
    "NUL": ("x.csv", MANY + b"u\0,i,1\n", "NUL character at line 5002"),
    "a line of 30 MB": ("x.csv", HEADER + b"u," + b"i" * 30_000_000, "row longer than 16 MiB after line 2"),
    "a header of 30 MB": ("x.csv", b"i" * 30_000_000, "no readable header"),
    "too large": ("x.csv", HEADER + b"u,i,1\n" * (MAX_FILE // 6), f"more than {MAX_FILE} bytes"),
    "gzip bomb": ("x.csv.gz", gzip.compress(HEADER + b"u,i,1\n" * (MAX_FILE // 5), 1), "RECSERVER_MAX_FILE_BYTES"),
    "wrong columns": ("x.csv", b"who,what\nann,tea\n", "who->user_id,what->item_id"),
    "duplicate columns": ("x.csv", b"user_id,user_id,item_id\na,b,c\n", "two columns named 'user_id'"),
    "all rows bad": ("x.csv", HEADER + b",i,1\nu,,1\n" + b"u" * 300 + b",i,1\n", "None of the 3 rows is usable"),
    "all rows ragged": ("x.csv", HEADER + b"u,i,1,2\n" * 3, "more fields than the header: 3"),
    "only negative ratings": ("x.csv", HEADER + b"u,i,-1\nv,i,-2\nv,j,-3\n", "to count each interaction as 1"),
    "gzip cut off": ("x.csv.gz", half(gzip.compress(MANY)), "damaged gzip"),
    "bz2 cut off": ("x.csv.bz2", half(bz2.compress(MANY)), "damaged bz2"),
    "xz cut off": ("x.csv.xz", half(lzma.compress(MANY)), "damaged xz"),
    "zstd cut off": ("x.csv.zst", half(zstd(MANY)), "damaged zstd"),
    "bz2, second part damaged": ("x.csv.bz2", bz2.compress(MANY) + b"rest of it", "damaged bz2"),
    "gz that is a page": ("x.csv.gz", b"<!doctype html><p>Please log in", "HTML"),
    "spreadsheet": ("x.csv", b"PK\x03\x04" + bytes(100), "spreadsheet"),
    "Parquet cut off": ("x.parquet", half(parquet_file()), "cannot be read as Parquet"),
    "Parquet with another name": ("x.csv", parquet_file(), "format parquet"),
    "Feather cut off": ("x.feather", half(arrow_file()), "cannot be read as Arrow"),
    "Feather with another name": ("x.csv", arrow_file(), "format arrow"),
    "JSON lines, one broken": ("x.jsonl", LINE * 5 + b'{"user_id": "u", "it\n' + LINE, "not valid JSON at line 6"),
    "JSON lines, deep": ("x.jsonl", LINE + b'{"a":' * 99_999 + b"1" + b"}" * 99_999, "not valid JSON at line 2"),
    "JSON array": ("x.jsonl", b"[" + LINE + b"]", "contains a JSON array"),
}


async def test_bad_files_fail_with_a_message_and_do_no_harm(kitchen: Kitchen, tmp_path: Path) -> None:
    data_dir, create = kitchen.rec.data_dir, kitchen.rec.create_data_chef_from_csv
    for case, (name, content, sentence) in BAD_FILES.items():
        (data_dir / name).write_bytes(content)
        error = await kitchen.fails(create, file_path=name)
        assert sentence in error and is_a_sentence(error), f"{case}: {error}"
    (data_dir / "folder.csv").mkdir()
    os.mkfifo(data_dir / "pipe.csv")
    (tmp_path / "secret.csv").write_bytes(GOOD)
    for name, sentence in (
        ("nowhere.csv", "There is no file"), ("folder.csv", "is not a regular file"),
        ("pipe.csv", "is not a regular file"),
    ):  # fmt: skip
        assert sentence in await kitchen.fails(create, file_path=name)
    link = data_dir / "link.csv"

    async def create_and_then_link(*given: Any, **chef: Any) -> None:
        await create(*given, **chef)
        link.symlink_to(tmp_path / "secret.csv")  # a chef of it would not even be made

    assert "outside the data folder" in await kitchen.fails(create_and_then_link, file_path="link.csv")


WRONG_ROWS: dict[str, tuple[str, bytes, int, dict[str, int]]] = {
    "byte order mark": ("x.csv", b"\xef\xbb\xbf" + GOOD, 5, {}),
    "CRLF": ("x.csv", GOOD.replace(b"\n", b"\r\n"), 5, {}),
    "CR": ("x.csv", GOOD.replace(b"\n", b"\r"), 5, {}),
    "UTF-16 with a mark": ("x.csv", GOOD.decode().encode("utf-16"), 5, {}),
    "no gzip in spite of its name": ("x.csv.gz", GOOD, 5, {}),
    "ragged": ("x.csv", GOOD + b"u,i,1,2\nu\n", 5, {"the row has more fields than the header": 1,
                                                   "item_id is empty": 1}),
    "ratings": ("x.csv", GOOD + b"u,i,nan\nv,i,inf\nw,i,-5\nx,i,1e999\ny,i,a lot\n", 10, {}),
    "ids": ("x.csv", GOOD + "7,8,1\n\U0001f600,\u202e,1\n,i,1\n".encode() + b"u" * 9999 + b",i,1\n"
            + b"9" * 300 + b",i,1\n", 7, {"user_id is empty": 1, "user_id is longer than 256 characters": 2}),
    "JSON": ("x.jsonl", LINE + b'{"user_id": %s, "item_id": 7.0}\n{"user_id": %s, "item_id": 1}\n'
             b'{"user_id": "\\ud800", "item_id": 1}\n{"user_id": [1], "item_id": true, "rating": 1e999}\n[]\n'
             % (b"9" * 99, b"9" * 10**6), 2, {"user_id is longer than 256 characters": 1,
             "user_id is neither text nor a number": 1, "user_id is not valid Unicode": 1,
             "the row is not a JSON object": 1}),
}  # fmt: skip


async def test_invalid_rows_are_counted_and_the_others_are_used(kitchen: Kitchen) -> None:
    rec = kitchen.rec
    for number, (case, (name, content, kept, rejected)) in enumerate(WRONG_ROWS.items()):
        (rec.data_dir / name).write_bytes(content)
        await rec.create_model(f"w{number}", **MODEL)
        ended = await kitchen.run(rec.create_data_chef_from_csv, model_id=f"w{number}", file_path=name)
        assert (ended.outcome, ended.error) == ("completed", None), case
        assert ended.data_report is not None
        found = (ended.data_report["rows_kept"], ended.data_report["rejected"])
        assert found == (kept, rejected), case
        assert (await kitchen.get(f"/recommend/v/w{number}"))["model_version"] == 1
        await kitchen.is_unharmed(None)


Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def gives(body: bytes | str = b"", status: int = 200, **headers: str) -> Reply:
    async def reply(_: web.Request) -> web.Response:
        data = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return web.Response(body=data, status=status, headers=named)

    return reply


async def hangs(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def drips(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.05)


async def never_ends(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"[")
    while True:
        await response.write(b'{"user_id": 1},' * 1000)


async def is_cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "9999"})
    await response.prepare(request)
    await response.write(b'[{"user_id": "u"')
    assert request.transport is not None
    request.transport.close()
    return response


async def pages_for_ever(request: web.Request) -> web.Response:
    return web.json_response([{**ROW, "n": request.query["page"], "fill": "x" * 100_000}])


async def a_page_of_words(request: web.Request) -> web.Response:
    return web.json_response([ROW] if request.query["page"] < "3" else {"error": "rate limit"})


PAGED = {"paginated": True, "size_value": 1}
AGAIN = {"Retry_After": "0"}

BAD_ANSWERS: dict[str, tuple[Reply, dict[str, Any], str]] = {
    "401": (gives("who?", 401), {}, "responded with 401 Unauthorized: check the url and the credentials"),
    "404": (gives("", 404), {}, "responded with 404 Not Found"),
    "429": (gives("", 429, **AGAIN), {}, "responded with 429 Too Many Requests: send it fewer requests. It was"),
    "500": (gives("", 500, **AGAIN), {}, "responded with 500 Internal Server Error"),
    "503 for long": (gives("", 503, Retry_After="9999"), {}, "asks to wait 9999 seconds"),
    "cut body": (is_cut, {}, "sent an incomplete response"),
    "HTML": (gives("<html>log in</html>"), {}, "HTML or XML"),
    "JSON cut off": (gives('[{"user_id": "u"'), {}, "returned incomplete JSON"),
    "redirect loop": (gives("", 302, Location="/"), {}, "redirects more than 3 times"),
    "redirect to metadata": (gives("", 302, Location="http://169.254.169.254/latest"), {}, "link-local, metadata"),
    "redirect to nothing": (gives("", 302, Location="http://[::1"), {}, "that is refused: it is not valid"),
    "endless pages": (pages_for_ever, PAGED, f"sent more than {MAX_SOURCE} bytes"),
    "a page that repeats": (gives(json.dumps([ROW])), PAGED, "same page again and again"),
    "an error instead of a page": (a_page_of_words, PAGED, "an object without rows as page 3"),
    "204": (gives(status=204), {}, "empty response"),
    "empty body": (gives(), {}, "empty response"),
    "no rows": (gives("[]"), {}, "holds no rows"),
    "error object": (gives('{"error": "no"}'), {}, "no column user_id; found 'error'"),
    "bomb": (gives(gzip.compress(b"[" + b" " * 50_000_000 + b"]"), Content_Encoding="gzip"), {},
             f"sent more than {MAX_SOURCE} bytes"),
    "no gzip": (gives("[]", Content_Encoding="zstd"), {}, "whose compression is not supported"),
    "endless body": (never_ends, {}, f"sent more than {MAX_SOURCE} bytes"),
    "open and deep": (gives("[" * 1_000_000), {}, "returned incomplete JSON"),
    "endless digits": (gives('[{"user_id": 1, "item_id": ' + "9" * 10**6 + "}]"), {}, "not valid JSON"),
    "304 unasked": (gives(status=304), {}, "responded with 304"),
}  # fmt: skip


async def all_fail(kitchen: Kitchen, answers: dict[str, tuple[Reply, dict[str, Any], str]]) -> None:
    app = web.Application()
    replies: dict[str, Reply] = {}

    async def answer(request: web.Request) -> web.StreamResponse:
        return await replies["now"](request)

    app.router.add_get("/", answer)
    async with TestServer(app, handler_cancellation=True, shutdown_timeout=0.1) as site:
        for case, (reply, chef, sentence) in answers.items():
            replies["now"] = reply
            create = kitchen.rec.create_data_chef_from_api
            error = await kitchen.fails(create, url=str(site.make_url("/")), **chef)
            assert sentence in error and is_a_sentence(error), f"{case}: {error}"


async def test_bad_responses_fail_with_a_message_and_do_no_harm(kitchen: Kitchen) -> None:
    await all_fail(kitchen, BAD_ANSWERS)


@pytest.mark.parametrize("settings", [Settings(**LIMITS, source_timeout=1)], ids=[""])
async def test_missing_responses_time_out(kitchen: Kitchen) -> None:
    late = "took longer than 1 seconds"
    await all_fail(kitchen, {"hang": (hangs, {}, late), "slow drip": (drips, {}, late)})
