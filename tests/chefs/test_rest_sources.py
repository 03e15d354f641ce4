"""Pagination, credentials, retries and conditional requests of REST sources."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from recserver._internal.chefs.rest import http_client as fetch
from recserver._internal.chefs.rest import page_fetching as pages
from recserver._internal.chefs.rest import rest_chef as api
from recserver._internal.chefs.rest.error_messages import retry_after_seconds
from recserver._internal.chefs.rest.json_pages import FastPageDecoder, page_from_rows, parse_page
from recserver._internal.chefs.rest.json_stream import JsonRowParser
from recserver._internal.chefs.rest.rest_chef import ApiChef
from recserver._internal.chefs.secrets import MASK, mask_entry, restore_masked
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import InvalidInput, SourceFailed, SourceUnchanged
from tests.helpers.http_site import Site

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]

CANARY = "c4n4ry-Pa55"
ROWS = [{"user_id": f"u{number}", "item_id": number} for number in range(25)]
USERS = [row["user_id"] for row in ROWS]


def chef(policy: SourcePolicy, site: Site, path: str = "/", **entry: Any) -> ApiChef:
    return ApiChef({"type": "api", "url": f"{site.url}{path}", **entry}, policy)


def failure(read: Read, one: ApiChef) -> str:
    with pytest.raises(SourceFailed) as caught:
        read(one)
    return str(caught.value)


def answers(site: Site, answer: Callable[[web.Request], Any]) -> None:
    """Serve ``answer(request)`` as JSON, or as it is if it is a response."""

    async def reply(request: web.Request) -> web.StreamResponse:
        found = answer(request)
        return found if isinstance(found, web.StreamResponse) else web.json_response(found)

    site.answer = reply


def by_page(request: web.Request, first: int = 1) -> list[Any]:
    start = (int(request.query["page"]) - first) * int(request.query["size"])
    return ROWS[start : start + int(request.query["size"])]


def by_offset(request: web.Request) -> Any:
    start = int(request.query["offset"])
    return {"items": ROWS[start : start + int(request.query["limit"])]}


def by_cursor(request: web.Request) -> Any:
    start = int(request.query.get("cursor", 0))
    more = start + 10 < len(ROWS)
    return {"data": {"items": ROWS[start : start + 10]}, "meta": {"next": start + 10 if more else None}}


def by_json_link(request: web.Request) -> Any:
    start = int(request.query.get("from", 0))
    return {"results": ROWS[start : start + 10], "links": {"next": f"?from={start + 10}" if start < 20 else ""}}


def by_header_link(request: web.Request) -> web.Response:
    start = int(request.query.get("from", 0))
    link = {"Link": f'</?from={start + 10}>; rel="next", </?from=0>; rel="first"'} if start < 20 else {}
    return web.json_response(ROWS[start : start + 10], headers=link)


def by_header_cursor(request: web.Request) -> web.Response:
    start = int(request.query.get("after", 0))
    return web.json_response(ROWS[start : start + 10], headers={"X-Next": str(start + 10)} if start < 20 else {})


@pytest.mark.parametrize(
    ("answer", "entry"),
    [
        (by_page, {"paginated": True, "page_size": 10}),
        (by_page, {"paginator": {"type": "page_number", "page_size": 5}}),
        (lambda request: by_page(request, 0),
         {"paginator": {"type": "page_number", "first_page": 0, "page_size": 3}}),
        (by_offset, {"paginator": {"type": "offset", "page_size": 10}}),
        (by_cursor, {"paginator": {"type": "cursor", "cursor_path": "meta.next"}, "data_selector": "data.items"}),
        (by_json_link, {"paginator": {"type": "json_link", "next_path": "links.next"}}),
        (by_header_link, {"paginator": {"type": "header_link"}}),
        (by_header_cursor, {"paginator": {"type": "header_cursor", "header": "x-next", "cursor_param": "after"}}),
    ],
    ids=["paginated", "page_number", "first_page", "offset", "cursor", "json_link", "header_link",
         "header_cursor"],
)  # fmt: skip
def test_all_kinds_of_pagination_are_read_completely(
    policy: SourcePolicy, site: Site, table: Read, answer: Callable[[web.Request], Any], entry: dict[str, Any]
) -> None:
    answers(site, answer)
    one = chef(policy, site, **entry)
    assert table(one) == (("user_id", "item_id"), {"user_id": USERS, "item_id": list(range(25))})
    assert sum(batch.n_bytes for batch in one.batches(None)) > 25 * len('{"user_id": "u1", "item_id": 1}')


def test_numbered_pages_are_fetched_concurrently_and_in_order(
    policy: SourcePolicy, site: Site, table: Read
) -> None:
    arrived: list[int] = []
    all_there = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        page = int(request.query["page"])
        arrived.append(page)
        if 2 <= page <= 4:  # respond only after all of them were requested
            if {2, 3, 4} <= set(arrived):
                all_there.set()
            await all_there.wait()
        return web.json_response(by_page(request))

    site.answer = answer
    assert table(chef(policy, site, paginated=True, page_size=5, concurrent_pages=3))[1]["user_id"] == USERS
    assert max(arrived) <= 5 + 3


def test_a_404_after_a_full_page_is_the_end(policy: SourcePolicy, site: Site, table: Read) -> None:
    answers(site, lambda request: by_page(request) or web.json_response({"detail": "Invalid page."}, status=404))
    assert table(chef(policy, site, paginated=True, page_size=5))[1]["user_id"] == USERS
    answers(site, lambda request: web.Response(status=404))
    assert "responded with 404 Not Found" in failure(table, chef(policy, site, paginated=True))


def test_errors_after_the_last_page_are_ignored(policy: SourcePolicy, site: Site, table: Read) -> None:
    answers(site, lambda request: by_page(request) or web.Response(status=403))
    assert table(chef(policy, site, paginated=True, page_size=10))[1]["user_id"] == USERS


@pytest.mark.parametrize(
    "paginator",
    [{"type": "json_link"}, {"type": "cursor", "cursor_path": "next"}, {"type": "header_link"}],
    ids=lambda one: one["type"],
)
def test_loops_of_linked_pages_are_detected(
    policy: SourcePolicy, site: Site, table: Read, paginator: dict[str, str]
) -> None:
    link = {"Link": '</?b>; rel="next"'}
    answers(site, lambda request: web.json_response({"items": ROWS, "next": "/?b"}, headers=link))
    assert "names a next page that was already read" in failure(table, chef(policy, site, paginator=paginator))


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/", "file:///etc/passwd", "http://u:p@127.0.0.1/", 7, "http://[x"]
)
def test_a_next_page_with_a_denied_url_is_rejected(
    policy: SourcePolicy, site: Site, table: Read, target: object
) -> None:
    answers(site, lambda request: {"items": ROWS, "next": target})
    sentence = failure(table, chef(policy, site, paginator={"type": "json_link"}))
    assert "next page" in sentence
    assert len(site.requests) == 1


def test_the_number_of_linked_pages_is_limited(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES", 5)
    answers(site, lambda request: {"items": [{"user_id": len(site.requests)}], "next": f"?p={len(site.requests)}"})
    assert "has more than 5 pages" in failure(table, chef(policy, site, paginator={"type": "json_link"}))


def test_a_page_that_is_too_large_is_rejected(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 2**20)
    answers(site, lambda request: web.Response(body=b"[" + b" " * 3 * 2**20 + b"]"))
    assert failure(table, chef(policy, site, paginated=True)).endswith(
        "has a page of more than 1 MiB: request smaller ones."
    )


AUTH = [
    ({"type": "bearer", "token": CANARY}, "Authorization", f"Bearer {CANARY}"),
    ({"type": "api_key", "key": CANARY}, "X-API-Key", CANARY),
    ({"type": "api_key", "key": CANARY, "header": "X-Shop"}, "X-Shop", CANARY),
    ({"type": "basic", "username": "me", "password": CANARY}, "Authorization", "Basic bWU6YzRuNHJ5LVBhNTU="),
]


@pytest.mark.parametrize(("auth", "header", "value"), AUTH, ids=range(len(AUTH)))
def test_credentials_are_sent_masked_and_restored(
    policy: SourcePolicy, site: Site, table: Read, auth: dict[str, str], header: str, value: str
) -> None:
    answers(site, lambda request: ROWS)
    one = {"type": "api", "url": site.url, "auth": auth, "headers": {"X-Tenant": "shop", "Cookie": CANARY}}
    table(ApiChef(one, policy))
    sent = site.requests[0].headers
    assert (sent[header], sent["X-Tenant"], sent["Cookie"]) == (value, "shop", CANARY)
    masked = mask_entry(one)
    assert CANARY not in json.dumps(masked)
    assert masked["headers"] == {"X-Tenant": "shop", "Cookie": MASK}
    assert restore_masked(masked, one) == one
    with pytest.raises(InvalidInput, match="stored for its own host only"):
        restore_masked(masked | {"url": "http://other.example/"}, one)
    with pytest.raises(InvalidInput, match="no secret is stored"):
        restore_masked(masked, None)


def test_credentials_can_be_environment_variables(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(site, lambda request: ROWS)
    one = {"url": site.url, "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"}}
    assert mask_entry(one) == one
    monkeypatch.delenv("SHOP_TOKEN", raising=False)
    assert ApiChef(one, policy).warnings() == ["The environment variable SHOP_TOKEN is not set."]
    monkeypatch.setenv("SHOP_TOKEN", CANARY)
    table(ApiChef(one, policy))
    assert site.requests[0].headers["Authorization"] == f"Bearer {CANARY}"


def test_credentials_are_sent_to_their_origin_only(policy: SourcePolicy, site: Site, table: Read) -> None:
    other = Site()
    try:
        answers(other, lambda request: {"items": [], "next": None})
        entry = {"auth": {"type": "api_key", "key": CANARY}, "headers": {"Cookie": CANARY, "X-Tenant": "t"}}
        answers(site, lambda request: web.Response(status=302, headers={"Location": f"{other.url}/there"}))
        table(chef(policy, site, **entry))
        answers(site, lambda request: {"items": ROWS, "next": f"{other.url}/next"})
        table(chef(policy, site, paginator={"type": "json_link"}, **entry))
        assert [request.path for request in other.requests] == ["/there", "/next"]
        for request in other.requests:
            assert CANARY not in str(request.headers)
            assert "X-Tenant" not in request.headers
    finally:
        other.close()


@pytest.mark.parametrize(
    "entry",
    [
        {"auth": {"type": "bearer"}},
        {"auth": {"type": "oauth", "token": "x"}},
        {"auth": {"type": "bearer", "token": "a\r\nX: y"}},
        {"auth": {"type": "basic", "username": "a:b", "password": "x"}},
        {"auth": "secret"},
        {"headers": {"Host": "x"}},
        {"headers": {"Transfer-Encoding": "x"}},
        {"headers": {"a b": "x"}},
        {"headers": {"X": "a\nb"}},
        {"headers": {"X": 1}},
        {"paginator": {"type": "page_number"}, "paginated": True},
        {"paginator": {"type": "pages"}},
        {"paginator": {"type": "page_number", "pagesize": 5}},
        {"paginator": {"type": "page_number", "page_param": "n", "size_param": "n"}},
        {"paginator": {"type": "cursor"}},
        {"paginator": {"type": "json_link", "next_path": "a..b"}},
        {"data_selector": ".items"},
        {"data_selector": ""},
        {"concurrent_pages": 0},
        {"concurrent_pages": 17},
    ],
    ids=repr,
)
def test_invalid_entries_are_rejected_without_quoting_secrets(policy: SourcePolicy, entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        ApiChef({"url": "http://example.com/", **entry}, policy)
    assert caught.value.errors
    assert "secret" not in str(caught.value)


def fails_first(times: int, response: Callable[[], web.StreamResponse]) -> Callable[[web.Request], Any]:
    """A handler that fails so many times first."""
    left = [times]

    def answer(_: web.Request) -> Any:
        left[0] -= 1
        return response() if left[0] >= 0 else ROWS

    return answer


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_transient_errors_are_retried(policy: SourcePolicy, site: Site, table: Read, status: int) -> None:
    answers(site, fails_first(2, lambda: web.Response(status=status, headers={"Retry-After": "0"})))
    assert table(chef(policy, site))[1]["user_id"] == USERS
    assert len(site.requests) == 3


@pytest.mark.parametrize(
    ("status", "headers", "tries", "sentence"),
    [
        (500, {}, 3, "responded with 500 Internal Server Error: try again once it works. It was tried 3 times."),
        (429, {}, 3, "responded with 429 Too Many Requests: send it fewer requests. It was tried 3 times."),
        (503, {"Retry-After": "4000"}, 1, "responded with 503 Service Unavailable and asks to wait 4000 seconds: "
                                           "train from it less often."),
        (501, {}, 1, "responded with 501 Not Implemented: try again once it works."),
        (401, {}, 1, "responded with 401 Unauthorized: check the url and the credentials."),
        (403, {}, 1, "responded with 403 Forbidden: check the url and the credentials."),
        (404, {}, 1, "responded with 404 Not Found: check the url and the credentials."),
    ],
)  # fmt: skip
def test_lasting_errors_are_reported(
    policy: SourcePolicy, site: Site, table: Read, status: int, headers: dict[str, str], tries: int, sentence: str
) -> None:
    answers(site, lambda request: web.Response(status=status, headers=headers, text="secret"))
    assert failure(table, chef(policy, site)).partition("' ")[2] == sentence
    assert len(site.requests) == tries


def test_an_incomplete_response_is_requested_again(policy: SourcePolicy, site: Site, table: Read) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if len(site.requests) > 1:
            return web.json_response(ROWS)
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'[{"user_id": "u0"')
        assert request.transport is not None
        request.transport.close()
        return response

    site.answer = answer
    assert table(chef(policy, site))[1]["user_id"] == USERS


def test_a_response_is_not_requested_again_after_its_first_rows(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_BUFFERED_BYTES", 100)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(b"[" + b'{"user_id": "u0"},' * 100)
        assert request.transport is not None
        request.transport.close()
        return response

    site.answer = answer
    assert "sent an incomplete response" in failure(table, chef(policy, site))
    assert len(site.requests) == 1


def test_retry_after_is_a_number_or_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    waits = {text: retry_after_seconds(text) for text in ("7", later, "", "soon", "-1", "9" * 20)}
    assert 7 <= (waits["7"] or 0) < 8
    assert 90 < (waits[later] or 0) < 102
    assert [waits[text] for text in ("", "soon", "-1", "9" * 20)] == [None] * 4
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    assert 0 <= (retry_after_seconds(past) or 0) < 1


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_an_unchanged_source_is_not_read(policy: SourcePolicy, site: Site, table: Read, header: str) -> None:
    value = {"ETag": 'W/"v1"', "Last-Modified": "Mon, 23 Nov 2026 20:00:00 GMT"}[header]
    condition = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}[header]

    def answer(request: web.Request) -> Any:
        if request.headers.get(condition) == value:
            return web.Response(status=304)
        return web.json_response(ROWS, headers={header: value})

    answers(site, answer)
    first = chef(policy, site)
    table(first)
    assert list(first.validators.values()) == [value]
    second = chef(policy, site)
    second.validators = first.validators
    with pytest.raises(SourceUnchanged, match="nothing has changed since the last training"):
        table(second)


def test_pages_and_redirects_have_no_validators(policy: SourcePolicy, site: Site, table: Read) -> None:
    tagged = {"ETag": '"v1"'}
    answers(site, lambda request: web.json_response(by_page(request), headers=tagged))
    paged = chef(policy, site, paginated=True)
    table(paged)
    assert paged.validators == {}

    def moved(request: web.Request) -> Any:
        if request.path == "/":
            return web.Response(status=302, headers={"Location": "/there"})
        return web.json_response(ROWS, headers=tagged)

    answers(site, moved)
    redirected = chef(policy, site)
    table(redirected)
    assert redirected.validators == {}


def test_rows_are_found_at_the_selector(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(site, lambda request: {"shop": {"orders": ROWS, "items": [{"user_id": "wrong"}]}})
    for most in (2**20, 10):
        monkeypatch.setattr(api, "MAX_BUFFERED_BYTES", most)
        assert table(chef(policy, site, data_selector="shop.orders"))[1]["user_id"] == USERS
        assert failure(table, chef(policy, site, data_selector="shop.baskets")).endswith(
            "has no rows at 'shop.baskets': correct the data_selector of the data chef."
        )


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(-1e9, 1e9), st.text(max_size=4)
)
objects = st.dictionaries(st.sampled_from(["user_id", "item_id", "more"]), values, max_size=3)
elements = st.lists(st.one_of(objects, objects, objects, st.integers(), st.none(), st.just([1])), max_size=5)
documents = st.one_of(
    elements,
    objects,
    st.builds(
        lambda key, rows, extra: {**extra, key: rows},
        st.sampled_from(["items", "data", "results", "rows"]),
        elements,
        st.dictionaries(
            st.sampled_from(["has_next", "next", "total"]), st.sampled_from([None, True, False, "", "/x"])
        ),
    ),
)


@given(st.lists(documents, min_size=1, max_size=3), st.sampled_from([None, 2]), st.integers(1, 50))
def test_both_json_parsers_find_the_same_rows(parts: list[Any], indent: int | None, step: int) -> None:
    body = b"\n".join(json.dumps(one, indent=indent).encode() for one in parts)
    requested = frozenset({"user_id", "item_id"})
    page = parse_page(body, requested, None, "The source")
    reader = JsonRowParser(requested, "The source")
    rows = [row for start in range(0, len(body), step) for row in reader.feed(body[start : start + step])]
    rows += reader.close()

    def usual(values: list[Any]) -> list[Any]:
        return [[] if isinstance(one, list | dict) else one for one in values]

    assert page.n_rows == len(rows)
    for name in requested:
        values = page.columns.get(name, [None] * page.n_rows)
        assert usual(values) == usual([row.get(name) for row in rows])
    assert (page.n_non_objects, page.has_more) == (reader.n_non_objects, reader.has_more)
    assert set(page.column_names) == set(reader.column_names)


@given(st.lists(objects, min_size=1, max_size=4), elements)
def test_the_fast_page_decoder_decodes_the_same(first: list[dict[str, Any]], second: list[Any]) -> None:
    requested = frozenset({"user_id", "item_id"})
    body = json.dumps(second, ensure_ascii=False).encode()
    fast = FastPageDecoder(page_from_rows(first, requested), requested).decode(body)
    slow = parse_page(body, requested, None, "The source")
    if fast is None:
        assert slow.n_non_objects
        return
    assert (fast.n_rows, slow.n_non_objects) == (slow.n_rows, 0)
    for name in requested:
        nothing = [None] * slow.n_rows
        assert fast.columns.get(name, nothing) == slow.columns.get(name, nothing)


def test_a_response_without_data_times_out(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "READ_SECONDS", 0.1)

    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    site.answer = hang
    assert failure(table, chef(policy, site)).endswith(
        "sent nothing for 0.1 seconds: check why it is so slow. It was tried 3 times."
    )
    assert len(site.requests) == 3
