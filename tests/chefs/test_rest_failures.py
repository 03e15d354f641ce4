"""Messages for failures of REST sources and for invalid entries, and which failures are transient."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from recserver._internal.chefs.lookup import load_chef_class
from recserver._internal.chefs.rest import http_client as fetch
from recserver._internal.chefs.rest import rest_chef as api
from recserver._internal.chefs.rest.rest_chef import ApiChef
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import InvalidInput, SourceFailed
from tests.helpers.http_site import Site

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]

CANARY = "c4n4ry-Pa55"


def failure(read: Read, policy: SourcePolicy, url: str, **entry: Any) -> SourceFailed:
    with pytest.raises(SourceFailed) as caught:
        read(ApiChef({"type": "api", "url": url, **entry}, policy))
    return caught.value


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("status", "headers", "transient", "retry_after"),
    [
        (500, {}, True, None),
        (503, {"Retry-After": "2"}, True, 2),
        (429, {"Retry-After": "2"}, True, 2),
        (429, {"Retry-After": "4000"}, False, None),
        (501, {}, False, None),
        (401, {}, False, None),
        (404, {}, False, None),
        (200, {}, False, None),
    ],
)
def test_transient_statuses_are_marked(
    policy: SourcePolicy, site: Site, table: Read, status: int, headers: dict[str, str], transient: bool,
    retry_after: float | None,
) -> None:  # fmt: skip
    site.gives(b"no rows", status, **headers)
    failed = failure(table, policy, site.url)
    assert (failed.transient, failed.is_internal) == (transient, False)
    assert failed.retry_after == (None if retry_after is None else pytest.approx(retry_after, abs=0.2))


def test_connection_errors_are_transient(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = b'HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n[{"user_id": 1},'
    assert failure(table, policy, f"http://127.0.0.1:{closed_port()}/").transient
    assert failure(table, policy, site.raw(broken)).transient
    assert not failure(table, policy, site.url.replace("http:", "https:")).transient
    monkeypatch.setattr(
        api, "MAX_BUFFERED_BYTES", 10
    )  # no retry after the first rows, but a later run may succeed
    assert failure(table, policy, site.raw(broken)).transient


@pytest.mark.parametrize("status", [429, 503])
def test_long_retry_delays_fail_at_once(policy: SourcePolicy, site: Site, table: Read, status: int) -> None:
    site.gives(b"", status, **{"Retry-After": "100"})  # the timeout of the policy is 20 seconds
    failed = failure(table, policy, site.url)
    assert str(failed).endswith("It asks to wait 100 seconds.")
    assert f"responded with {status} " in str(failed)
    assert (failed.transient, len(site.requests)) == (True, 1)
    assert failed.retry_after == pytest.approx(100, abs=0.2)
    long = policy.model_copy(update={"source_timeout": 600.0})
    assert str(failure(table, long, site.url)).endswith("It was tried 3 times.")


def test_default_retry_delays_respect_the_timeout(policy: SourcePolicy, site: Site, table: Read) -> None:
    site.gives(b"", 500)
    failed = failure(table, policy.model_copy(update={"source_timeout": 2.0}), site.url)
    assert str(failed).endswith("responded with 500 Internal Server Error: try again once it works.")
    assert len(site.requests) == 1


def test_a_retry_delay_leaves_time_for_the_response(policy: SourcePolicy) -> None:
    async def allowed() -> list[bool]:
        async with fetch.HttpClient(policy) as client:
            return [client._can_retry(seconds, 1) for seconds in (0, 10, 14, 16, 19, 21)]

    assert asyncio.run(allowed()) == [True, True, True, False, False, False]


def test_errors_after_a_redirect_name_the_target(policy: SourcePolicy, site: Site, table: Read) -> None:
    port = closed_port()
    site.gives(b"", 302, Location=f"http://127.0.0.1:{port}/x?token={CANARY}")
    assert str(failure(table, policy, f"{site.url}/a")) == (
        f"The address 'http://127.0.0.1:{port}/x?token=********', to which '{site.url}/a' redirects, refused the "
        "connection: check that it is running. It was tried 3 times."
    )
    site.gives(b"", 302, Location=f"https://127.0.0.1:{site.port}/")
    assert "to which" in str(failure(table, policy, site.url))


def test_a_status_after_a_redirect_is_that_of_the_target(policy: SourcePolicy, site: Site, table: Read) -> None:
    other = Site()
    try:
        other.gives(b"", 403)
        site.gives(b"", 302, Location=f"{other.url}/b")
        assert str(failure(table, policy, site.url)).startswith(f"The address '{other.url}/b', to which")
    finally:
        other.close()


REFUSED = "169.254.169.254 is a link-local, metadata, multicast or reserved address: no data chef may reach it."


def test_messages_for_denied_addresses(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = f"The source '{site.url}' "
    for target, reason in (("http://169.254.169.254/", REFUSED), ("ftp://x/", "begin with http:// or https://.")):
        must = "" if reason is REFUSED else "must "
        site.gives(b"", 302, Location=target)
        said = str(failure(table, policy, site.url))
        assert said == f"{start}redirects to an address that is refused: {'it ' if must else ''}{must}{reason}"
        site.gives(b'{"items": [{"user_id": 1}], "next": "%s"}' % target.encode())
        said = str(failure(table, policy, site.url, paginator={"type": "json_link"}))
        assert said == f"{start}names a next page that is refused: {'it ' if must else ''}{must}{reason}"
        monkeypatch.setenv("BASE", target)
        said = str(failure(table, policy, "${BASE}"))
        assert said == f"The source's url cannot be fetched: {'it ' if must else ''}{must}{reason}"


def test_invalid_expanded_credentials_are_reported(
    policy: SourcePolicy, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", f"{CANARY}:x")
    said = str(
        failure(table, policy, "http://x.example/", auth={"type": "basic", "username": "${NAME}", "password": "p"})
    )
    assert said == "The data chef cannot be used: auth.basic.username: must not contain a colon."


TYPES = {
    "auth": "bearer, api_key or basic",
    "paginator": "page_number, offset, cursor, json_link, header_link or header_cursor",
}


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"paginator": {"type": "foo"}}, f"paginator: its type must be {TYPES['paginator']}."),
        ({"paginator": {}}, f"paginator: its type must be {TYPES['paginator']}."),
        ({"paginator": "foo"}, f"paginator: must be an object with a type, which is {TYPES['paginator']}."),
        ({"auth": {"type": "oauth"}}, f"auth: its type must be {TYPES['auth']}."),
        ({"auth": {"type": ["x"]}}, f"auth: its type must be {TYPES['auth']}."),
        ({"auth": {"token": "x"}}, f"auth: its type must be {TYPES['auth']}."),
        ({"auth": "secret"}, f"auth: must be an object with a type, which is {TYPES['auth']}."),
        ({"auth": {"type": "bearer", "token": 123456789}},
         "auth.bearer.token: must be text: put it in quotes."),
        ({"auth": {"type": "bearer", "token": ["x"]}}, "auth.bearer.token: must be text."),
        ({"auth": {"type": "bearer", "token": "\ud800"}},
         "auth.bearer.token: must be text without lone surrogates."),
        ({"auth": {"type": "bearer", "token": "x" * 8001}},
         "auth.bearer.token: must have at most 8000 characters."),
        ({"auth": {"type": "basic", "username": "a:b", "password": "x"}},
         "auth.basic.username: must not contain a colon."),
        ({"headers": {"Host": "x"}}, "headers: 'Host' is not a header that a data chef can set."),
        ({"headers": {5: "x"}}, "headers: the name '5' must be text: put it in quotes."),
        ({"headers": {"X-Tenant": 5}}, "headers.X-Tenant: must be text: put it in quotes."),
        ({"headers": ["X"]}, "headers: must be an object whose values are text."),
        ({"page_param": ""}, "page_param: must have 1 to 100 characters."),
        ({"page_param": True}, "page_param: must be text: put it in quotes."),
        ({"data_selector": 7}, "data_selector: must be text: put it in quotes."),
        ({"url": 7}, "url: must be text: put it in quotes."),
    ],
)  # fmt: skip
def test_messages_for_invalid_entries(policy: SourcePolicy, entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ApiChef({"url": "http://example.com/", **entry}, policy)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "csv", "path": "x.csv"},
        {"type": "sql", "query": "SELECT user_id, item_id FROM events"},
        {"type": "api", "url": "http://example.com/"},
    ],
    ids=lambda entry: str(entry["type"]),
)
def test_row_rules_are_validated_for_every_type(policy: SourcePolicy, entry: dict[str, Any]) -> None:
    made = load_chef_class(entry["type"])
    made(entry, policy)
    with pytest.raises(InvalidInput, match="constant_rating and event_weights exclude each other"):
        made({**entry, "constant_rating": 1, "event_weights": {"view": 1}}, policy)
    with pytest.raises(InvalidInput, match="event_column needs event_weights"):
        made({**entry, "event_column": "kind"}, policy)
