"""Access control by key, Host and Origin, on every route and for every method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr, ValidationError

from recserver import RecServer, Settings
from recserver._internal.server.http.routes import PREFIXES, ROUTES
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api, Serve

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery-staple"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
OTHER_PATHS = [
    "//create_model", "/./create_model", "/create_model/", "/CREATE_MODEL", "/%63reate_model", "/create_model;x",
    "/health/../create_model", "/recommend/..%2fcreate_model", "/create_model%00", "/create_model?",
    "/api/v1//create_model", "/api/v1/../create_model", "/api/v1/api/v1/create_model", "/health/create_model",
    "/health%2f..%2fcreate_model", "/health;/../create_model", "/health#/../create_model", "/", "/docs", "*",
    "http://localhost/create_model", "http://localhost/health/../create_model",
]  # fmt: skip
BAD_AUTHORIZATION = [
    "", "Bearer", "Bearer ", "bearer  x", "Basic Og==", f"Basic {KEY}", f"{KEY}", f"Bearer{KEY}",
    "Bearer x, Bearer y",
    f"Bearer {KEY},", f"Bearer {KEY} x", f'Bearer "{KEY}"', f"Bearer {KEY[:-1]}", f"Bearer {KEY}x",
    f"Bearer {KEY.upper()}", f"Token {KEY}", "Bearer \x00", "Bearer " + "a" * 100_000, f"Bearer {KEY}\x00",
    "Bearer \xe9", "Bearer None", "Bearer ********",
]  # fmt: skip
OTHER_HEADERS = [
    ("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1;host=localhost"),
    ("X-Forwarded-Host", "localhost"), ("X-HTTP-Method-Override", "DELETE"), ("X-Original-URL", "/health"),
    ("X-Rewrite-URL", "/health"), ("Cookie", f"auth_token={KEY}; api_key={KEY}"), ("Content-Type", "text/plain"),
    ("X-Api-Token", KEY), ("Api-Key", KEY), ("Proxy-Authorization", f"Bearer {KEY}"), ("Referer", "http://localhost/"),
]  # fmt: skip
LOOPBACK_HOSTS = ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:9999", "127.8.8.8", "[::1]", "[::1]:9999"]
FOREIGN_HOSTS = [
    "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0",
    "[::]", "[fe80::1]", "", "[", "localhost@evil.example", "0x7f000001", "2130706433", "xn--lcalhost-54a",
]  # fmt: skip
FOREIGN_ORIGINS = [
    "null", "http://evil.example", "https://localhost", "http://localhost.evil.example", "file://", "",
    "http://127.0.0.1", "https://shop.example.evil.example", "https://shop.example:444", "http://shop.example",
]  # fmt: skip
UNKNOWN_PATHS = [
    "/", "/nothing", "/api/v1", "/api/v2/list_models", "/list_models/", "/recommend/u0", "/recommend//m",
    "/get_model_info/", "/get_model_info/m/n", "/recommend/u/m/5/6", "/favicon.ico",
]  # fmt: skip
ADDRESSES = [(prefix, route) for prefix in PREFIXES for route in ROUTES]


def filled(path: str) -> str:
    """A route's path with something in its places."""
    return path.format(model_id="m", data_chef_id="c", user_id="u0", n="5", run_id="r")


def request(path: str, headers: Mapping[str, str], method: str = "POST") -> bytes:
    """A request without a body, as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.fixture
async def guarded(serve: Serve, data_dir: Path, settings: Settings, trainings: ScriptedExecutor) -> Api:
    """A client of a server with a key, that knows the pages of one shop."""
    change = {"api_key": SecretStr(KEY), "allowed_origins": ("https://shop.example",)}
    data_dir = data_dir.with_name("guarded")  # some tests ask the usual server as well
    return await serve(RecServer(data_dir, settings.model_copy(update=change), executor=trainings))


WRONG_KEYS = ["", "wrong", KEY[:-1], KEY + "x", KEY.upper(), "*" * 28, "\xe9" * 16, None]


async def test_every_route_needs_the_key(guarded: Api, subtests: pytest.Subtests) -> None:
    for key in WRONG_KEYS:
        with subtests.test(key=key):
            headers = {} if key is None else {"X-API-Key": key}
            for prefix, route in ADDRESSES:
                for query in ("", f"?api_key={KEY}&X-API-Key={KEY}&key={KEY}&token={KEY}&access_token={KEY}"):
                    answer = await guarded.ask(route.method, prefix + filled(route.path) + query, headers=headers)
                    if route.path == "/health":
                        assert answer.body == {"status": "ok"}
                    else:
                        assert (answer.status, answer.code) == (401, "unauthorized"), f"{route} {key}"
            assert (await guarded.ask("GET", "/get_scheduler_status", headers={"X-API-Key": KEY})).status == 200


HEADERS_WITH_THE_KEY: list[Mapping[str, str]] = [
    {"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer {KEY}"},
    {"Authorization": "Bearer wrong", "X-API-Key": KEY},
]  # fmt: skip


async def test_requests_with_the_key_are_allowed(guarded: Api, subtests: pytest.Subtests) -> None:
    for headers in HEADERS_WITH_THE_KEY:
        with subtests.test(headers=headers):
            for prefix, route in ADDRESSES:
                answer = await guarded.ask(route.method, prefix + filled(route.path), headers=headers)
                assert answer.status in (200, 404, 422) and answer.code != "route_not_found", (
                    f"{route}: {answer.body}"
                )
                assert KEY not in str(answer.body)


async def test_no_method_bypasses_the_key(guarded: Api, subtests: pytest.Subtests) -> None:
    for method in METHODS:
        with subtests.test(method=method):
            for prefix, route in ADDRESSES:
                answer = await guarded.ask(method, prefix + filled(route.path))
                open_to_all = route.path == "/health" and method == "GET"
                assert answer.status == (200 if open_to_all else 401), f"{method} {route.path}"


async def test_no_form_of_a_path_bypasses_the_key(guarded: Api) -> None:
    for path in OTHER_PATHS:
        for method in ("GET", "POST", "DELETE"):
            status, _, body = await guarded.wire(request(path, {"Host": "localhost"}, method))
            # what follows # is no path
            health = path.startswith("/health#") and body == b'{"status":"ok"}\n'
            assert status in (400, 401) or health, f"{method} {path}: {status} {body!r}"


async def test_no_other_header_bypasses_the_key(guarded: Api) -> None:
    for value in BAD_AUTHORIZATION:
        status, _, _ = await guarded.wire(request("/list_models", {"Host": "a", "Authorization": value}, "GET"))
        assert status in (400, 401), f"{value[:50]!r}: {status}"
    for name, value in OTHER_HEADERS:
        status, _, _ = await guarded.wire(request("/list_models", {"Host": "localhost", name: value}, "GET"))
        assert status == 401, f"{name}: {status}"
    good = request("/list_models", {"Host": "a", "Authorization": f"Bearer {KEY}"}, "GET")
    assert (await guarded.wire(good))[0] == 200


async def test_other_origins_are_rejected(guarded: Api, api: Api, subtests: pytest.Subtests) -> None:
    for origin in FOREIGN_ORIGINS:
        with subtests.test(origin=origin):
            for prefix, route in ADDRESSES:
                for client, key in ((guarded, KEY), (api, "")):
                    headers = {"Origin": origin, "X-API-Key": key}
                    answer = await client.ask(route.method, prefix + filled(route.path), headers=headers)
                    assert (answer.status, answer.code) == (403, "origin_not_allowed"), f"{route} {origin}"
                    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_own_and_allowed_origins_are_accepted(guarded: Api, api: Api) -> None:
    for client, origin in (
        (api, api.url), (guarded, guarded.url), (guarded, "https://shop.example"), (guarded, "HTTPS://SHOP.example"),
    ):  # fmt: skip
        for prefix, route in ADDRESSES:
            headers = {"Origin": origin, "X-API-Key": KEY}
            answer = await client.ask(route.method, prefix + filled(route.path), headers=headers)
            assert answer.status in (200, 404, 422), f"{route} {origin}: {answer.body}"
    shop = {"Origin": "https://shop.example"}
    assert (await guarded.ask("GET", "/list_models", headers=shop)).status == 401
    assert (await api.ask("GET", "/list_models", headers=shop)).status == 403


async def test_without_a_key_only_loopback_names_are_accepted(api: Api, subtests: pytest.Subtests) -> None:
    for host in FOREIGN_HOSTS:
        with subtests.test(host=host):
            for prefix, route in ADDRESSES:
                path = prefix + filled(route.path)
                status, _, body = await api.wire(request(path, {"Host": host}, route.method))
                assert status == 403 and b'"host_not_allowed"' in body, f"{path} {host}: {status}"
            assert (await api.wire(b"GET /list_models HTTP/1.0\r\n\r\n"))[0] == 403


async def test_loopback_names_are_accepted(api: Api, guarded: Api) -> None:
    for host in LOOPBACK_HOSTS:
        assert (await api.wire(request("/list_models", {"Host": host}, "GET")))[0] == 200, host
    named = {"Host": "recommendations.example", "X-API-Key": KEY}  # with a key, any name will do
    assert (await guarded.wire(request("/list_models", named, "GET")))[0] == 200


async def test_two_host_headers_are_rejected(api: Api) -> None:
    for hosts in (b"Host: localhost\r\nHost: evil.example", b"Host: evil.example\r\nHost: localhost"):
        assert (await api.wire(b"GET /list_models HTTP/1.1\r\n" + hosts + b"\r\n\r\n"))[0] in (400, 403)


async def test_every_method_on_every_route(api: Api, subtests: pytest.Subtests) -> None:
    for method in METHODS:
        with subtests.test(method=method):
            for prefix, route in ADDRESSES:
                allowed = {one.method for one in ROUTES if one.path == route.path}
                if method in allowed:
                    continue
                answer = await api.ask(method, prefix + filled(route.path))
                assert answer.status == 405, f"{method} {route.path}"
                assert set(answer.headers["Allow"].split(",")) == allowed, f"{method} {route.path}"
                assert method == "HEAD" or answer.code == "method_not_allowed"


async def test_unknown_routes(api: Api, subtests: pytest.Subtests) -> None:
    for method in METHODS:
        with subtests.test(method=method):
            for path in UNKNOWN_PATHS:
                answer = await api.ask(method, path)
                assert answer.status == 404, f"{method} {path}"
                assert method == "HEAD" or answer.code == "route_not_found"


@pytest.mark.parametrize("key", ["", " ", "changeme", "a" * 15, " " * 20, "a" * 15 + "   "])
def test_a_short_key_is_rejected(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(ValidationError, match="at least 16"):
            Settings(host=host, api_key=SecretStr(key))
    if key:
        monkeypatch.setenv("RECSERVER_API_KEY", key)
        with pytest.raises(ValidationError, match="at least 16"):
            Settings()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "recommendations.example", "127.0.0.1.example"])
def test_a_public_address_needs_a_key(host: str) -> None:
    with pytest.raises(ValidationError, match="RECSERVER_API_KEY"):
        Settings(host=host)
    assert Settings(host=host, api_key=SecretStr("a" * 16)).on_loopback is False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_needs_no_key(host: str) -> None:
    assert Settings(host=host).on_loopback is True


async def test_a_host_application_controls_access(rec: RecServer) -> None:
    host = web.Application()
    host.add_subapp("/rec", rec.web_app())
    async with TestServer(host) as server, ClientSession() as session:
        mounted = Api(str(server.make_url("/rec")), session, rec)
        for headers in ({"Host": "shop.example"}, {"Origin": "http://evil.example"}, {"X-API-Key": "x"}):
            assert (await mounted.ask("GET", "/list_models", headers=headers)).status == 200
        assert (await mounted.ask("PUT", "/api/v1/list_models")).code == "method_not_allowed"
        assert (await mounted.get("/nothing")).code == "route_not_found"


async def test_a_configured_key_applies_in_a_host_application(data_dir: Path, settings: Settings) -> None:
    host = web.Application()
    rec = RecServer(data_dir, settings.model_copy(update={"api_key": SecretStr(KEY)}), executor=ScriptedExecutor())
    host.add_subapp("/rec", rec.web_app())
    async with TestServer(host) as server, ClientSession() as session:
        mounted = Api(str(server.make_url("/rec")), session, rec)
        assert (await mounted.get("/list_models")).status == (await mounted.get("/nothing")).status == 401
        assert (await mounted.get("/health")).status == 200
        assert (await mounted.ask("GET", "/list_models", headers={"X-API-Key": KEY})).status == 200
