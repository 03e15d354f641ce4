"""Answers of many lines: their order, their one version, and clients that do not stay."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from contextlib import closing
from typing import Any

import pytest
from yarl import URL

from recserver._internal.server.http import ndjson as web_lines
from recserver._internal.server.service import recommend as operations
from tests.helpers.api_client import Api
from tests.helpers.film_models import USERS, swap_films

pytestmark = pytest.mark.slow

MANY = [f"user {number}" if number % 3 else list(USERS)[number % 10] for number in range(3000)]
LONG = {"model_id": "films", "user_ids": MANY * 2, "explain": True, "exclude_seen": False}
"""An answer of about 10 MB, which is more than sockets hold: it goes on while the client reads."""


class Reading:
    """A client that takes an answer slowly, and so holds it up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, api: Api, path: str, body: object) -> Reading:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        url, content = URL(api.url), json.dumps(body).encode()
        await asyncio.get_running_loop().sock_connect(one, (url.host, url.port))
        reader, writer = await asyncio.open_connection(sock=one, limit=4096)
        head = f"POST {path} HTTP/1.1\r\nHost: {url.authority}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
        return cls(reader, writer)

    async def first(self) -> bytes:
        return await self.reader.read(2000)

    async def rest(self) -> list[dict[str, Any]]:
        """The lines of the whole answer but its beginning, which must end as an answer does."""
        content = bytearray()
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)  # slow no more
        with closing(self.writer):
            while part := await self.reader.read(2**16):
                content += part
        assert content.endswith(b"\r\n0\r\n\r\n"), "it breaks off"
        lines = [line for line in bytes(content).split(b"\n") if line.startswith(b"{") and line.endswith(b"}")]
        return [json.loads(line) for line in lines]  # those that a chunk's border cuts are left out


async def test_three_thousand_users_in_their_order(films: Api) -> None:
    lines = await films.lines("/recommend_batch", {"model_id": "films", "user_ids": MANY, "n": 2})
    assert [line["user_id"] for line in lines] == MANY
    for line in lines[:50]:
        asked = {"model_id": "films", "user_id": line["user_id"], "n": 2}
        alone = await films.ok("POST", "/recommend", asked)
        assert line["items"] == alone["predictions"][line["user_id"]]
        assert {name: line[name] for name in ("source", "model_version", "n_recommendations")} == {
            name: alone[name] for name in ("source", "model_version", "n_recommendations")
        }
    assert {line["source"] for line in lines} == {"personal", "popular"}


async def test_batches_of_any_size(films: Api) -> None:
    for size in (0, 1, 63, 64, 65, 128, 129):
        lines = await films.lines("/recommend_batch", {"model_id": "films", "user_ids": MANY[:size]})
        assert [line["user_id"] for line in lines] == MANY[:size]


async def test_a_batch_supports_all_options(films: Api) -> None:
    options = {
        "filter": "price<12", "boost": "genre=Horror*2", "n": 3, "offset": 1, "explain": True, "diversity": 0.2,
        "max_per": "genre:3", "exclude": "jaws", "interactions": ["heat"], "popularity": "recent",
    }  # fmt: skip
    lines = await films.lines("/recommend_batch", {"model_id": "films", "user_ids": ["ann", "nobody"], **options})
    for line in lines:
        asked = {"model_id": "films", "user_id": line["user_id"], **options}
        assert line["items"] == (await films.ok("POST", "/recommend", asked))["predictions"][line["user_id"]]
    quiet = {"model_id": "films", "user_ids": ["nobody"], "fallback": False}
    (line,) = await films.lines("/recommend_batch", quiet)
    assert line == {"user_id": "nobody", "items": [], "n_recommendations": 0, "source": None, "model_version": 1}


async def test_invalid_batches_are_rejected_before_the_first_line(films: Api) -> None:
    known = ["ann"] * 200
    for options, name in (
        ({"filter": "year=5"}, "filter"), ({"popularity": "recent"}, "popularity"), ({"n": 0}, "n"),
    ):  # fmt: skip
        answer = await films.post(
            "/recommend_batch", {"model_id": "plain", "user_ids": [*known, "nobody"], **options}
        )
        assert (answer.status, answer.locs) == (422, [["body", name]])
    assert (await films.post("/recommend_batch", {"model_id": "x", "user_ids": known})).code == "model_not_found"


async def test_a_batch_uses_one_version(films: Api) -> None:
    answer = await films.rec.recommend_batch(MANY, model_id="films")
    lines = [await anext(answer)]
    await swap_films(films.rec)
    assert (await films.rec.recommend("ann", model_id="films"))["model_version"] == 2
    lines += [line async for line in answer]
    assert {line["model_version"] for line in lines} == {1} and len(lines) == len(MANY)


@pytest.mark.parametrize("end", ["swapped", "deleted"])
async def test_a_stream_continues_after_its_version_was_deleted(films: Api, end: str) -> None:
    client = await Reading.of(films, "/recommend_batch", LONG)
    assert b" 200 OK\r\n" in await client.first()
    if end == "deleted":
        await films.ok("DELETE", "/delete_model/films?force=true")
        assert (await films.get("/recommend/ann/films")).code == "model_not_found"
    else:
        await swap_films(films.rec)
        assert (await films.ok("GET", "/recommend/ann/films"))["model_version"] == 2
    lines = await client.rest()
    assert {line["model_version"] for line in lines} == {1} and len(lines) > 5000
    assert lines[-1]["user_id"] == MANY[-1] and lines[-1]["n_recommendations"] == 10


async def test_a_client_that_disconnects_is_no_error(films: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "recserver")
    await films.ok("GET", "/health")
    before = asyncio.all_tasks()
    clients = [await Reading.of(films, "/recommend_batch", LONG) for _ in range(3)]
    for client in clients:
        assert b" 200 OK\r\n" in await client.first()
    answering = asyncio.all_tasks() - before
    assert answering
    for client in clients:
        client.writer.transport.abort()
    _, unfinished = await asyncio.wait(answering, timeout=30)
    assert not unfinished
    lines = await films.lines("/recommend_batch", {"model_id": "films", "user_ids": MANY, "n": 1})
    assert len(lines) == len(MANY)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_an_error_during_streaming_closes_the_connection(
    films: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no second response within the first, and the client does not wait for one."""
    found = operations.recommend_many
    calls = iter(range(10_000))

    def failing(*given: Any) -> Any:
        if next(calls) >= 2:
            raise MemoryError
        return found(*given)

    monkeypatch.setattr(operations, "recommend_many", failing)
    body = json.dumps({"model_id": "films", "user_ids": [f"u{number}" for number in range(300)]}).encode()
    head = f"POST /recommend_batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with asyncio.timeout(20):
        received = await until_the_end(films.url, head + body)
    assert received.count(b"HTTP/1.1") == 1 and b"internal_error" not in received
    assert not received.endswith(b"0\r\n\r\n")


async def until_the_end(url: str, content: bytes) -> bytes:
    """All that comes back before the connection ends, in whichever way."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(content)
    received = b""
    try:
        while piece := await reader.read(2**16):
            received += piece
    except ConnectionResetError:
        pass
    writer.close()
    return received


async def test_invalid_options_are_rejected_without_users(films: Api) -> None:
    answer = await films.post("/recommend_batch", {"model_id": "films", "user_ids": [], "filter": "nope=1"})
    assert answer.status == 422 and "knows no attribute" in answer.body["detail"]


async def test_a_client_that_reads_nothing_is_disconnected(
    films: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web_lines, "WRITE_TIMEOUT", 0.2)
    await films.ok("GET", "/health")
    before = asyncio.all_tasks()
    client = await Reading.of(films, "/recommend_batch", LONG)
    await client.first()
    _, unfinished = await asyncio.wait(asyncio.all_tasks() - before, timeout=30)
    assert not unfinished and "the client received nothing for 0.2 seconds" in caplog.text
    with pytest.raises((AssertionError, ConnectionError)):
        await client.rest()
    assert (await films.ok("GET", "/recommend/ann/films"))["status"] == "completed"
