"""The REST chef with a real server, and with invalid and hostile responses."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from recserver._internal.chefs.protocol import Rejection
from recserver._internal.chefs.rest import http_client as fetch
from recserver._internal.chefs.rest import page_fetching as pages
from recserver._internal.chefs.rest import rest_chef as api
from recserver._internal.chefs.rest.rest_chef import ApiChef
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import InvalidInput, SourceFailed
from tests.helpers.http_site import Site

pytestmark = pytest.mark.slow

CANARY = "c4n4ry-Pa55"
ROWS = [{"user_id": f"u{number}", "item_id": number, "rating": number / 2} for number in range(25)]

BAD_URLS = [
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/",
    "ftp://127.0.0.1/",
    "//127.0.0.1/",
    "data:,x",
    "http://",
    "",
    "http://user:pass@127.0.0.1/",
    "http://127.0.0.1%2f@127.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://a\r\nX: y/",
    "http://example.com:99999/",
    "unix:///run/x.sock",
    "http://[::1%25lo]/",
    # further ones
    "http://token@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com:0/",
    "http://example.com:x/",
    "http://[::1/",
    "http:///path",
    "http://exa mple.com/",
    "http://example.com/\x00",
    "http:example.com",
    "example.com/x.json",
    "http://example.com/" + "a" * 8_000,
]

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]


def chef(policy: SourcePolicy, url: str, **entry: Any) -> ApiChef:
    return ApiChef({"type": "api", "url": url, "rename_columns": "", **entry}, policy)


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in ("user_id", "item_id", "rating")}


def slice_of(page: int, size: int) -> list[dict[str, Any]]:
    return ROWS[(page - 1) * size : page * size]


def test_a_single_response_is_read(policy: SourcePolicy, site: Site, table: Read) -> None:
    site.gives(json.dumps(ROWS, indent=2).encode())
    source = chef(policy, f"{site.url}/x?q=a%20b&page=5")
    assert source.warnings() == []
    for _ in range(2):
        assert table(source) == (("user_id", "item_id", "rating"), columns(ROWS))
    assert [str(request.rel_url) for request in site.requests] == ["/x?q=a%20b&page=5"] * 2
    assert site.requests[0].headers["Accept"].startswith("application/json")


def test_rows_can_have_different_columns(policy: SourcePolicy, site: Site, table: Read) -> None:
    site.gives(b'[{"user_id": 1}, 5, {"item_id": [1], "x": 2}]')
    found, read = table(chef(policy, site.url))
    assert found == ("user_id", "item_id", "x")
    assert read == {"user_id": [1, None], "item_id": [None, [1]]}
    (batch,) = chef(policy, site.url).batches(None)
    assert batch.rejected == (Rejection("is not a JSON object", 1, "5"),)


def test_compressed_responses_are_read(policy: SourcePolicy, site: Site, table: Read) -> None:
    site.gives(gzip.compress(json.dumps(ROWS).encode()), **{"Content-Encoding": "gzip"})
    assert table(chef(policy, site.url))[1] == columns(ROWS)


def test_an_empty_array_has_no_rows(policy: SourcePolicy, site: Site) -> None:
    site.gives(b"[]")
    assert [batch.n_rows for batch in chef(policy, site.url).batches({"user_id"})] == [0]


def test_long_results_are_read_in_batches_in_order(
    policy: SourcePolicy, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_BUFFERED_BYTES", 10_000)
    rows = 50_000 + 4321
    site.gives(b"\n".join(b'{"user_id": %d}' % number for number in range(rows)))
    batches = list(chef(policy, site.url).batches({"user_id"}))
    assert len(batches) == 2
    users = [user for batch in batches for user in batch.columns["user_id"].tolist()]
    assert users == list(range(rows))


@pytest.mark.parametrize(
    ("make", "n_requests"),
    [
        (slice_of, 3),
        (lambda page, size: slice_of(page, size) if page < 3 else [], 3),
        (lambda page, size: {"items": slice_of(page, size)}, 3),
        (lambda page, size: {"items": slice_of(page, size), "has_next": page < 2}, 2),
        (lambda page, size: {"data": slice_of(page, 5), "has_next": page < 5}, 5),
        (lambda page, size: {"results": slice_of(page, 5), "next": f"/{page + 1}" if page < 5 else None}, 5),
        (lambda page, size: {"results": slice_of(page, 10)} | ({"next": "/x"} if page < 2 else {}), 2),
        (lambda page, size: {"results": slice_of(page, 10), "has_next": True}, 4),
        (lambda page, size: slice_of(1, 25), 2),
        (lambda page, size: {"items": [], "has_next": True}, 1),
    ],
)
def test_pages_are_requested_until_the_last(
    policy: SourcePolicy, site: Site, table: Read, make: Callable[[int, int], Any], n_requests: int
) -> None:
    size = 25 if n_requests == 2 and len(make(1, 10)) == 25 else 10
    site.pages(lambda page, _: make(page, 10) if size == 10 or page == 1 else [])
    source = chef(policy, f"{site.url}/x?q=1", paginated=True, page_size=size, concurrent_pages=1)
    read = table(source)[1]
    assert [request.query["page"] for request in site.requests] == [str(page + 1) for page in range(n_requests)]
    assert {request.query["size"] for request in site.requests} == {str(size)}
    assert {request.query["q"] for request in site.requests} == {"1"}
    users = read.get("user_id", [])
    assert users == [row["user_id"] for row in ROWS[: len(users)]]


def test_page_parameters_can_be_renamed(policy: SourcePolicy, site: Site, table: Read) -> None:
    site.gives(b"[]")
    table(chef(policy, site.url, paginated="true", page_param="p", size_param="n", page_size="7"))
    assert str(site.requests[0].rel_url) == "/?p=1&n=7"


def test_a_repeated_page_fails(policy: SourcePolicy, site: Site, table: Read) -> None:
    site.pages(lambda page, size: ROWS[:size])
    with pytest.raises(SourceFailed, match="same page again and again"):
        table(chef(policy, site.url, paginated=True, page_size=2, concurrent_pages=1))
    assert len(site.requests) == 6
    few = [{"user_id": "u", "item_id": "i"}]
    site.pages(lambda page, size: few if page < 9 else [])
    assert len(table(chef(policy, site.url, paginated=True, page_size=1))[1]["user_id"]) == 8


def test_the_number_of_numbered_pages_is_limited(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES", 5)
    site.pages(lambda page, size: [{"user_id": page}])
    with pytest.raises(SourceFailed, match="more than 5 pages"):
        table(chef(policy, site.url, paginated=True, page_size=1))


def test_the_limit_applies_to_all_pages_together(policy: SourcePolicy, site: Site, table: Read) -> None:
    site.pages(lambda page, size: [{"user_id": page, "fill": "x" * 1000}])
    small = policy.model_copy(update={"max_source_bytes": 10_000})
    with pytest.raises(SourceFailed, match="RECSERVER_MAX_SOURCE_BYTES"):
        table(chef(small, site.url, paginated=True, page_size=1, concurrent_pages=1))
    assert len(site.requests) == 10


@pytest.mark.parametrize("url", BAD_URLS)
def test_invalid_urls_are_rejected_at_creation(policy: SourcePolicy, url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        chef(policy, url)
    assert caught.value.errors[0].loc == ("url",)
    assert "pass" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "entry",
    [
        {"url": None},
        {"url": 1},
        {"paginated": "maybe"},
        {"page_size": 0},
        {"page_size": "1e3"},
        {"page_param": ""},
        {"page_param": "size"},
        {"rename_columns": "a"},
    ],
)
def test_invalid_entries_are_rejected(policy: SourcePolicy, entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        ApiChef({"url": "http://example.com/", **entry}, policy)
    assert caught.value.errors


def test_denied_addresses_are_rejected_at_creation(policy: SourcePolicy) -> None:
    for host in ("169.254.169.254", "0xa9fea9fe", "[::ffff:a9fe:a9fe]", "0"):
        with pytest.raises(InvalidInput, match="no data chef may reach"):
            chef(policy, f"http://{host}:80/")
    closed = policy.model_copy(update={"allow_private_sources": False})
    for host in ("127.0.0.1", "localhost", "10.0.0.1", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460"):
        with pytest.raises(InvalidInput, match="RECSERVER_ALLOW_PRIVATE_SOURCES"):
            chef(closed, f"http://{host}/")
        chef(policy, f"http://{host}/")


def redirecting(site: Site, hops: int, target: str, status: int = 302) -> str:
    """A URL of ``site`` that redirects ``hops`` times, the last time to ``target``."""

    async def answer(request: web.Request) -> web.Response:
        if not (left := int(request.path.strip("/") or 0)):
            return web.json_response(ROWS)
        response = web.Response(status=status, headers={"Location": f"/{left - 1}" if left > 1 else target})
        response.set_cookie("session", CANARY)
        return response

    site.answer = answer
    return f"{site.url}/{hops}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_three_redirects_are_followed(policy: SourcePolicy, site: Site, table: Read, status: int) -> None:
    assert table(chef(policy, redirecting(site, 3, "/0", status)))[1] == columns(ROWS)
    assert [request.path for request in site.requests] == ["/3", "/2", "/1", "/0"]
    assert not any("Cookie" in request.headers for request in site.requests)


def test_a_fourth_redirect_fails(policy: SourcePolicy, site: Site, table: Read) -> None:
    with pytest.raises(SourceFailed, match="redirects more than 3 times"):
        table(chef(policy, redirecting(site, 4, "/0")))
    assert len(site.requests) == 4


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest",
        "http://2852039166/",
        "http://[::ffff:a9fe:a9fe]/",
        "file:///etc/passwd",
        "http://user:pass@example.com/",
        "gopher://127.0.0.1/",
        "http://[::1/",
    ],
)
def test_redirects_to_denied_urls_are_rejected_before_connecting(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch, hops: int, target: str
) -> None:
    connected: list[Any] = []
    guard = fetch.GuardedSocketFactory.__call__
    monkeypatch.setattr(
        fetch.GuardedSocketFactory, "__call__", lambda self, info: connected.append(info[-1]) or guard(self, info)
    )
    with pytest.raises(SourceFailed, match="redirects to an address that is refused"):
        table(chef(policy, redirecting(site, hops, target)))
    assert {place[:2] for place in connected} == {("127.0.0.1", site.port)}


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Make names resolve to these addresses: one list for each lookup, and the last one from then on."""
    waiting = list(answers)
    real = socket.getaddrinfo

    def lookup(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host != "source.example":
            return real(host, port, *rest, **options)
        addresses = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def test_resolved_addresses_are_checked(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.gives(json.dumps(ROWS).encode())
    named = f"http://source.example:{site.port}/"
    resolving(monkeypatch, ["127.0.0.1"])
    assert table(chef(policy, named))[1] == columns(ROWS)
    closed = policy.model_copy(update={"allow_private_sources": False})
    with pytest.raises(SourceFailed, match="RECSERVER_ALLOW_PRIVATE_SOURCES"):
        table(chef(closed, named))
    resolving(monkeypatch, ["169.254.169.254"])
    with pytest.raises(SourceFailed, match="no data chef may reach it"):
        table(chef(policy, named))
    resolving(monkeypatch, ["169.254.169.254", "127.0.0.1"])
    assert table(chef(policy, named))[1] == columns(ROWS)  # only the allowed address is connected to
    assert len(site.requests) == 2


def test_dns_rebinding_is_detected(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.gives(b"[]")
    source = chef(policy, f"http://source.example:{site.port}/")
    resolving(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
    table(source)
    with pytest.raises(SourceFailed, match="no data chef may reach it"):
        table(source)


def test_unusual_address_formats_are_checked_when_connecting(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "host_error", lambda *_, **__: None)
    closed = policy.model_copy(update={"allow_private_sources": False})
    for host in ("127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "localhost", "127.0.0.1"):
        # aiohttp rejects the short notations
        with pytest.raises(SourceFailed, match=r"RECSERVER_ALLOW_PRIVATE_SOURCES|could not be fetched"):
            table(chef(closed, f"http://{host}:{site.port}/"))
    assert site.requests == []


@pytest.mark.parametrize(
    ("body", "status", "headers", "sentence"),
    [
        (b"secret", 401, {}, "responded with 401 Unauthorized: check the url and the credentials"),
        (b"secret", 404, {}, "responded with 404 Not Found"),
        (b"secret", 429, {}, "responded with 429 Too Many Requests"),
        (b"secret", 500, {}, "responded with 500 Internal Server Error: try again"),
        (b"", 304, {}, "responded with 304"),
        (b"", 302, {}, "responded with 302"),
        (b"secret", 599, {}, "responded with 599:"),
        (b"<html>secret", 200, {"Content-Type": "text/html"}, "HTML or XML"),
        (b"secret", 200, {}, "not valid JSON"),
        (b'{"a": "secret', 200, {}, "incomplete"),
        (b"", 200, {}, "empty response"),
        (b"", 204, {}, "empty response"),
        (b"secret", 200, {"Content-Encoding": "gzip"}, "could not be fetched|compression|incomplete"),
    ],
)
def test_invalid_responses_are_reported_without_quoting_them(
    policy: SourcePolicy,
    site: Site,
    table: Read,
    body: bytes,
    status: int,
    headers: dict[str, str],
    sentence: str,
) -> None:
    site.gives(body, status, **headers)
    with pytest.raises(SourceFailed, match=sentence) as caught:
        table(chef(policy, f"{site.url}/?api_key={CANARY}"))
    assert "secret" not in str(caught.value)
    assert CANARY not in str(caught.value)
    assert "********" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{"user_id": 1}', "incomplete"),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{"us', "incomplete"),
        (b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[{"user_id": 1}', "incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n", "not HTTP"),
        (b"", "closed the connection without a response"),
        (b"220 secret smtp\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n[]", "not HTTP"),
    ],
)
def test_broken_connections_are_reported(
    policy: SourcePolicy, site: Site, table: Read, reply: bytes, sentence: str
) -> None:
    with pytest.raises(SourceFailed, match=sentence) as caught:
        table(chef(policy, site.raw(reply)))
    assert "secret" not in str(caught.value)


def test_unreachable_hosts_are_reported(
    policy: SourcePolicy, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(SourceFailed, match="refused the connection"):
            table(chef(policy, f"http://127.0.0.1:{taken.getsockname()[1]}/"))

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(SourceFailed, match="host that cannot be found"):
        table(chef(policy, "http://source.example/"))


def test_https_without_tls_is_reported(policy: SourcePolicy, site: Site, table: Read) -> None:
    with pytest.raises(SourceFailed, match="does not support TLS"):
        table(chef(policy, site.url.replace("http:", "https:")))


async def hang(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


def test_a_hanging_source_times_out(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answer = hang
    with pytest.raises(SourceFailed, match=r"longer than 0\.1 seconds.*RECSERVER_SOURCE_TIMEOUT"):
        table(chef(policy.model_copy(update={"source_timeout": 0.1}), site.url))
    monkeypatch.setattr(fetch, "READ_SECONDS", 0.1)
    with pytest.raises(SourceFailed, match=r"sent nothing for 0\.1 seconds"):
        table(chef(policy, site.url))


def test_a_slow_response_times_out(policy: SourcePolicy, site: Site, table: Read) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.02)

    site.answer = drip
    with pytest.raises(SourceFailed, match="longer than"):
        table(chef(policy.model_copy(update={"source_timeout": 0.2}), site.url))


def test_an_endless_body_is_read_up_to_the_limit(policy: SourcePolicy, site: Site, table: Read) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[")
        while True:
            await response.write(b'{"user_id": 1},' * 1000)

    site.answer = endless
    small = policy.model_copy(update={"max_source_bytes": 2_000_000})
    with pytest.raises(SourceFailed, match="more than 2000000 bytes"):
        table(chef(small, site.url))


def test_a_gzip_bomb_is_read_up_to_the_limit(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = gzip.compress(b"[" + b" " * 100_000_000 + b"]")
    assert len(bomb) < 200_000
    site.gives(bomb, **{"Content-Encoding": "gzip"})
    clients: list[fetch.HttpClient] = []
    made = fetch.HttpClient.__init__
    monkeypatch.setattr(
        fetch.HttpClient, "__init__", lambda self, *given: clients.append(self) or made(self, *given)
    )
    small = policy.model_copy(update={"max_source_bytes": 1_000_000})
    with pytest.raises(SourceFailed, match="more than 1000000 bytes"):
        table(chef(small, site.url))
    assert clients[0].bytes_received <= 1_000_000 + fetch.CHUNK_SIZE


def test_proxies_of_the_environment_are_not_used(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    site.gives(b"[]")
    table(chef(policy, site.url))


def test_variables_are_expanded_and_the_result_is_validated(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.gives(json.dumps(ROWS).encode())
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.setenv("TOKEN", f"{CANARY}&a=b")
    source = chef(policy, "http://127.0.0.1:${PORT}/x?token=${TOKEN}")
    assert source.warnings() == ["The environment variable PORT is not set."]
    with pytest.raises(SourceFailed, match="PORT"):
        table(source)
    monkeypatch.setenv("PORT", str(site.port))
    assert source.warnings() == []
    assert table(source)[1] == columns(ROWS)
    assert dict(site.requests[0].query) == {"token": f"{CANARY}&a=b"}
    monkeypatch.setenv("BASE", f"http://{CANARY}@169.254.169.254")
    with pytest.raises(SourceFailed, match="cannot be fetched") as caught:
        table(chef(policy, "${BASE}/x"))
    assert CANARY not in str(caught.value)
    with pytest.raises(InvalidInput):
        chef(policy, "http://169.254.169.254/?token=${TOKEN}")


def test_closing_the_iterator_closes_the_connection(policy: SourcePolicy, site: Site) -> None:
    site.gives(b"\n".join([b'{"user_id": 1}'] * (50_000 * 2)))
    reading = chef(policy, site.url).batches({"user_id"})
    next(reading)
    reading.close()  # type: ignore[attr-defined]


async def test_a_chef_can_be_read_in_a_thread_while_a_loop_is_running(
    policy: SourcePolicy, site: Site, table: Read
) -> None:
    site.gives(json.dumps(ROWS).encode())
    source = chef(policy, site.url)
    assert (await asyncio.to_thread(table, source))[1] == columns(ROWS)
