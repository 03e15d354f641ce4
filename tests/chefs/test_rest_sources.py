"""REST sources of every habit: pages, credentials, faults that pass, answers that have not changed."""

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

from recserver.chefs.rest import http_client as fetch
from recserver.chefs.rest import page_fetching as pages
from recserver.chefs.rest import rest_chef as api
from recserver.chefs.rest.error_messages import retry_after_seconds
from recserver.chefs.rest.json_pages import FastPageDecoder, page_from_rows, parse_page
from recserver.chefs.rest.json_stream import JsonRowParser
from recserver.chefs.rest.rest_chef import ApiChef
from recserver.chefs.secrets import MASK, mask_entry, restore_masked
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import InvalidInput, SourceFailed, SourceUnchanged
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
    """Answer with the JSON of ``answer(request)``, or with the response it makes."""

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
def test_every_kind_of_pages_is_read_to_the_end(
    policy: SourcePolicy, site: Site, table: Read, answer: Callable[[web.Request], Any], entry: dict[str, Any]
) -> None:
    answers(site, answer)
    one = chef(policy, site, **entry)
    assert table(one) == (("user_id", "item_id"), {"user_id": USERS, "item_id": list(range(25))})
    assert sum(batch.n_bytes for batch in one.batches(None)) > 25 * len('{"user_id": "u1", "item_id": 1}')


def test_numbered_pages_are_fetched_side_by_side_and_stay_in_order(
    policy: SourcePolicy, site: Site, table: Read
) -> None:
    arrived: list[int] = []
    all_there = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        page = int(request.query["page"])
        arrived.append(page)
        if 2 <= page <= 4:  # none of these is answered before all of them are asked for
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


def test_what_happens_beyond_the_end_does_not_matter(policy: SourcePolicy, site: Site, table: Read) -> None:
    answers(site, lambda request: by_page(request) or web.Response(status=403))
    assert table(chef(policy, site, paginated=True, page_size=10))[1]["user_id"] == USERS


@pytest.mark.parametrize(
    "paginator",
    [{"type": "json_link"}, {"type": "cursor", "cursor_path": "next"}, {"type": "header_link"}],
    ids=lambda one: one["type"],
)
def test_pages_that_go_in_circles_are_noticed(
    policy: SourcePolicy, site: Site, table: Read, paginator: dict[str, str]
) -> None:
    link = {"Link": '</?b>; rel="next"'}
    answers(site, lambda request: web.json_response({"items": ROWS, "next": "/?b"}, headers=link))
    assert "names a next page that was already read" in failure(table, chef(policy, site, paginator=paginator))


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/", "file:///etc/passwd", "http://u:p@127.0.0.1/", 7, "http://[x"]
)
def test_a_next_page_at_a_bad_place_is_refused(
    policy: SourcePolicy, site: Site, table: Read, target: object
) -> None:
    answers(site, lambda request: {"items": ROWS, "next": target})
    sentence = failure(table, chef(policy, site, paginator={"type": "json_link"}))
    assert "next page" in sentence
    assert len(site.requests) == 1


def test_endless_chains_end(
    policy: SourcePolicy, site: Site, table: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES", 5)
    answers(site, lambda request: {"items": [{"user_id": len(site.requests)}], "next": f"?p={len(site.requests)}"})
    assert "has more than 5 pages" in failure(table, chef(policy, site, paginator={"type": "json_link"}))


def test_a_page_that_is_too_large_is_refused(
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
def test_credentials_are_sent_shown_to_nobody_and_kept(
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


def test_credentials_may_come_from_the_environment(
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


def test_credentials_do_not_leave_their_origin(policy: SourcePolicy, site: Site, table: Read) -> None:
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
def test_a_wrong_entry_is_refused_without_quoting_secrets(policy: SourcePolicy, entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        ApiChef({"url": "http://example.com/", **entry}, policy)
    assert caught.value.errors
    assert "secret" not in str(caught.value)


def fails_first(times: int, response: Callable[[], web.StreamResponse]) -> Callable[[web.Request], Any]:
    """An answer that comes after so many failures."""
    left = [times]

    def answer(_: web.Request) -> Any:
        left[0] -= 1
        return response() if left[0] >= 0 else ROWS

    return answer


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_fault_that_passes_is_survived(policy: SourcePolicy, site: Site, table: Read, status: int) -> None:
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
def test_a_fault_that_stays_is_told(
    policy: SourcePolicy, site: Site, table: Read, status: int, headers: dict[str, str], tries: int, sentence: str
) -> None:
    answers(site, lambda request: web.Response(status=status, headers=headers, text="secret"))
    assert failure(table, chef(policy, site)).partition("' ")[2] == sentence
    assert len(site.requests) == tries


def test_a_body_that_breaks_off_is_fetched_again(policy: SourcePolicy, site: Site, table: Read) -> None:
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


def test_rows_that_were_handed_over_are_not_fetched_again(
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
def test_a_source_that_has_not_changed_says_so(policy: SourcePolicy, site: Site, table: Read, header: str) -> None:
    value = {"ETag": 'W/"v1"', "Last-Modified": "Mon, 23 Nov 2026 20:00:00 GMT"}[header]
    asked = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}[header]

    def answer(request: web.Request) -> Any:
        if request.headers.get(asked) == value:
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


def test_pages_and_redirects_leave_nothing_to_compare_with(policy: SourcePolicy, site: Site, table: Read) -> None:
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


def test_rows_are_found_where_the_selector_says(
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
def test_both_readers_find_the_same_rows(parts: list[Any], indent: int | None, step: int) -> None:
    body = b"\n".join(json.dumps(one, indent=indent).encode() for one in parts)
    wanted = frozenset({"user_id", "item_id"})
    page = parse_page(body, wanted, None, "The source")
    reader = JsonRowParser(wanted, "The source")
    rows = [row for start in range(0, len(body), step) for row in reader.feed(body[start : start + step])]
    rows += reader.close()

    def usual(values: list[Any]) -> list[Any]:
        return [[] if isinstance(one, list | dict) else one for one in values]

    assert page.n_rows == len(rows)
    for name in wanted:
        values = page.columns.get(name, [None] * page.n_rows)
        assert usual(values) == usual([row.get(name) for row in rows])
    assert (page.n_non_objects, page.has_more) == (reader.n_non_objects, reader.has_more)
    assert set(page.column_names) == set(reader.column_names)


@given(st.lists(objects, min_size=1, max_size=4), elements)
def test_pages_like_the_first_are_decoded_alike(first: list[dict[str, Any]], second: list[Any]) -> None:
    wanted = frozenset({"user_id", "item_id"})
    body = json.dumps(second, ensure_ascii=False).encode()
    alike = FastPageDecoder(page_from_rows(first, wanted), wanted).decode(body)
    slow = parse_page(body, wanted, None, "The source")
    if alike is None:
        assert slow.n_non_objects
        return
    assert (alike.n_rows, slow.n_non_objects) == (slow.n_rows, 0)
    for name in wanted:
        nothing = [None] * slow.n_rows
        assert alike.columns.get(name, nothing) == slow.columns.get(name, nothing)


def test_a_client_without_bytes_waits_no_longer_than_it_must(
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
