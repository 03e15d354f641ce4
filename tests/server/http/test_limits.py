"""Oversize, broken and odd requests: refused one by one, while the server lives on."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import ClientSession

from tests.helpers.api_client import Answer, Api, checked

pytestmark = pytest.mark.slow

LIMIT = 2**20
HOST = b"Host: localhost\r\n"
POST = b"POST /restart_scheduler HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"


def padded(size: int) -> bytes:
    """A body of ``size`` bytes that asks for nothing."""
    return b'{"padding":"' + b"x" * (size - 14) + b'"}'


def nested(depth: int, opening: bytes = b'{"a":', closing: bytes = b"}") -> bytes:
    """A JSON value of so many levels."""
    return opening * depth + b"1" + closing * depth


def chunked(content: bytes, size: int) -> bytes:
    """``content`` as chunks of ``size`` bytes."""
    parts = (content[start : start + size] for start in range(0, len(content), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.fixture
async def alive(api: Api) -> AsyncIterator[Api]:
    """A client of a server that must still answer when the test is over, and must not have changed."""
    yield api
    assert await api.ok("GET", "/health") == {"status": "ok"}
    assert await api.ok("GET", "/list_models") == {}


async def send(api: Api, head: bytes, content: bytes) -> Answer:
    """The answer to a request over the wire, which must be one of recserver's own."""
    status, headers, body = await api.wire(head + content)
    return checked(status, headers, body, str(head))


async def test_a_body_of_the_limit_and_a_byte_more(alive: Api) -> None:
    async def parts(content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), 2**16):
            yield content[start : start + 2**16]

    for size, status in ((LIMIT, 200), (LIMIT + 1, 413), (3 * LIMIT, 413)):
        answer = await alive.ask("POST", "/restart_scheduler", raw=padded(size))
        assert answer.status == status, size
        async with ClientSession() as session:  # without Content-Length
            address = f"{alive.url}/restart_scheduler"
            headers = {"Content-Type": "application/json"}
            async with session.post(address, data=parts(padded(size)), headers=headers) as response:
                assert response.request_info.headers["Transfer-Encoding"] == "chunked"
                answer = checked(response.status, response.headers, await response.read(), str(size))
        assert answer.status == status, size
        assert status == 200 or answer.code == "payload_too_large"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_too_large_on_every_method(alive: Api, method: str) -> None:
    paths = {
        "GET": "/list_models",
        "POST": "/create_model",
        "PUT": "/update_task_interval",
        "DELETE": "/delete_model",
    }
    answer = await alive.ask(method, paths[method], raw=padded(LIMIT + 1))
    assert (answer.status, answer.code) == (413, "payload_too_large")


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_the_limit_counts_after_decompression(
    alive: Api, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    headers = {"Content-Encoding": encoding}
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413), (50 * LIMIT, 413)):
        answer = await alive.ask("POST", "/restart_scheduler", raw=pack(padded(size)), headers=headers)
        assert answer.status == status, size


ENCODINGS = ["gzip", "deflate", "GZIP", "br", "zstd", "bogus", "gzip, gzip", "identity, x"]


async def test_bodies_that_contradict_their_headers(alive: Api, subtests: pytest.Subtests) -> None:
    for encoding in ENCODINGS:
        with subtests.test(encoding=encoding):
            whole = gzip.compress(json.dumps({str(number): number**9 for number in range(999)}).encode())
            for content in (b"no such thing", whole[:-2000], whole[:200] + b"junk" * 99):
                head = POST + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (
                    encoding.encode(),
                    len(content),
                )
                status, _, body = await alive.wire(head + content)
                assert status in (400, 415), f"{content!r}: {status} {body!r}"


async def test_unknown_encodings_are_named(alive: Api) -> None:
    answer = await alive.ask("POST", "/restart_scheduler", raw=b"{}", headers={"Content-Encoding": "bogus"})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert "bogus" in answer.body["detail"]
    assert (
        await alive.ask("POST", "/restart_scheduler", raw=b"{}", headers={"Content-Encoding": "identity"})
    ).status == 200


async def test_a_million_small_chunks(alive: Api) -> None:
    answer = await send(alive, POST + b"Transfer-Encoding: chunked\r\n\r\n", chunked(padded(200_000), 1))
    assert answer.status == 200


async def test_depth(alive: Api) -> None:
    for opening, closing in ((b'{"a":', b"}"), (b'{"a":[', b"]}")):
        levels = len(closing)
        deepest = nested(64 // levels, opening, closing)
        assert (await alive.ask("POST", "/restart_scheduler", raw=deepest)).status == 200
        answer = await alive.ask("POST", "/restart_scheduler", raw=b'{"b":' + deepest + b"}")
        assert (answer.status, answer.code) == (400, "malformed_json")
    for body in (nested(170_000), nested(400_000, b"[", b"]"), b"[" * LIMIT, b'{"a":' * 209_715):
        assert (await alive.ask("POST", "/restart_scheduler", raw=body)).code == "malformed_json"


async def test_large_bodies_do_not_block_the_event_loop(alive: Api) -> None:
    # The fixture loop_is_never_blocked fails this test if one of them does.
    wide = b'{"a":[' + b"[]," * 340_000 + b"[]]}"
    keys = json.dumps({f"{number:x}": number for number in range(50_000)}).encode()
    numbers = b'{"a":[' + b"1e9," * 250_000 + b"1]}"
    digits = b'{"a":' + b"9" * 1_000_000 + b"}"
    for body in (wide, keys, numbers, digits, b'{"a":"' + b"\\u0041" * 170_000 + b'"}'):
        assert (await alive.ask("POST", "/restart_scheduler", raw=body)).status == 200


async def test_the_longest_user_id(trained: Api) -> None:
    for user in ("a" * 256, "€" * 256, "𝄞" * 256):
        assert (await trained.post("/recommend", {"user_id": user, "model_id": "m"})).status == 200
        answer = await trained.post("/recommend", {"user_id": user + "a", "model_id": "m"})
        assert (answer.status, answer.locs) == (422, [["body", "user_id"]])
    assert (await trained.get(f"/recommend/{'a' * 256}/m")).status == 200
    assert (await trained.get(f"/recommend/{'a' * 257}/m")).status == 422


OTHER_TYPES = [
    "text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*", "text/json",
    "application/json/x", "application/jsonx", "application/octet-stream", "application/x-python-pickle",
    "application/json, text/plain", "application/ld+json",
]  # fmt: skip


async def test_other_types_of_body(alive: Api, subtests: pytest.Subtests) -> None:
    for kind in OTHER_TYPES:
        with subtests.test(kind=kind):
            for method, path in (("POST", "/create_model"), ("GET", "/list_models"), ("DELETE", "/delete_model")):
                body = b'{"model_id":"a","algorithm":"nmf"}'
                answer = await alive.ask(method, path, raw=body, headers={"Content-Type": kind})
                assert (answer.status, answer.code) == (415, "unsupported_media_type"), f"{method} {path}"


ACCEPTED_TYPES = ["application/json", "application/json; charset=utf-8", "Application/JSON;x=y", None]


async def test_accepted_content_types(alive: Api, subtests: pytest.Subtests) -> None:
    for kind in ACCEPTED_TYPES:
        with subtests.test(kind=kind):
            head = b"POST /restart_scheduler HTTP/1.1\r\n" + HOST
            head += b"Content-Type: %s\r\n" % kind.encode() if kind else b""
            assert (await send(alive, head + b"Content-Length: 13\r\n\r\n", b'{"timeout":5}')).status == 200


INVALID_HTTP: list[bytes] = [
    POST + b"Content-Length: -1\r\n\r\n{}",
    POST + b"Content-Length: +2\r\n\r\n{}",
    POST + b"Content-Length: 0x2\r\n\r\n{}",
    POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    POST + b"Content-Length: 2, 2\r\n\r\n{}",
    POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    POST.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}\r\n\r\n",
    POST + b"Content-Length : 2\r\n\r\n{}",
    POST + b"X-Odd: a\x00b\r\n\r\n",
    POST + b"no colon here\r\n\r\n",
    POST + b" folded: x\r\n\r\n",
    POST + b": nameless\r\n\r\n",
    POST + b"Host: localhost\r\n\r\n",
    b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /list_models?" + b"a" * 65536 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /list_models HTTP/1.1\r\n" + HOST + b"X-Long: " + b"a" * 65536 + b"\r\n\r\n",
    b"GET /list_models HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: 1\r\n" % n for n in range(1000)) + b"\r\n",
    b"GET /recommend?user_id=\xff&model_id=m HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /list_models HTTP/9.9\r\n" + HOST + b"\r\n",
    b"GET /list_models\r\n\r\n",
    b"FOO /list_models HTTP/1.1\r\n" + HOST + b"\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /list_models HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n\r\n\r\n\x00\x01\x02\r\n\r\n",
]


async def test_invalid_http(alive: Api, subtests: pytest.Subtests) -> None:
    for content in INVALID_HTTP:
        with subtests.test(content=content[-40:]):
            status, _, body = await alive.wire(content)
            assert 400 <= status < 500, body
            assert await alive.ok("GET", "/health") == {"status": "ok"}


UNFINISHED_REQUESTS = [
    b"", b"GET", b"GET /list_models HTTP/1.1\r\nHost:", POST + b"Content-Length: 100\r\n\r\n{",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", POST + b"Content-Length: 9999999999999999999\r\n\r\n{}",
]  # fmt: skip


async def test_clients_that_disconnect_early(
    alive: Api, caplog: pytest.LogCaptureFixture, subtests: pytest.Subtests
) -> None:
    for content in UNFINISHED_REQUESTS:
        with subtests.test(content=content[-40:]):
            host, port = alive.url.removeprefix("http://").split(":")
            for _ in range(20):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(content)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
            await alive.ok("GET", "/list_tasks")
            assert not [
                record for record in caplog.records if record.name.startswith("recserver._internal.server.http")
            ]


async def test_many_requests_in_one_connection(alive: Api) -> None:
    one = b"GET /list_models HTTP/1.1\r\n" + HOST + b"\r\n"
    reader, writer = await asyncio.open_connection(*alive.url.removeprefix("http://").split(":"))
    writer.write(one * 100)
    for _ in range(100):
        assert b" 200 " in await reader.readline()
        await reader.readuntil(b"\r\n\r\n{}\n")
    writer.close()
