"""Pagination of REST sources: links and cursors, the end of the pages, and hints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from recserver._internal.chefs.protocol import Batch
from recserver._internal.chefs.rest import page_fetching as pages
from recserver._internal.chefs.rest.http_client import Response
from recserver._internal.chefs.rest.json_pages import FastPageDecoder, page_from_rows
from recserver._internal.chefs.rest.link_header import next_link
from recserver._internal.chefs.rest.pagination_hints import missing_next_hints
from recserver._internal.chefs.rest.paginators import Cursor, HeaderCursor, HeaderLink, JsonLink
from recserver._internal.chefs.rest.rest_chef import ApiChef
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed
from tests.helpers.http_site import Site

Read = Callable[..., tuple[tuple[str, ...], dict[str, list[Any]]]]

ROWS = [{"user_id": f"u{number}", "item_id": number} for number in range(25)]
USERS = [row["user_id"] for row in ROWS]


def chef(policy: SourcePolicy, site: Site, **entry: Any) -> ApiChef:
    return ApiChef({"type": "api", "url": site.url, **entry}, policy)


def answers(site: Site, answer: Callable[[web.Request], Any]) -> None:
    """Serve ``answer(request)`` as JSON, or as it is if it is a response."""

    async def reply(request: web.Request) -> web.StreamResponse:
        found = answer(request)
        return found if isinstance(found, web.StreamResponse) else web.json_response(found)

    site.answer = reply


def hints(one: ApiChef) -> list[str]:
    return [hint for batch in one.batches(None) for hint in batch.hints]


def until_failure(one: ApiChef) -> tuple[list[Batch], str]:
    """The batches of a chef before it fails, and the message of the failure."""
    batches = []
    with pytest.raises(SourceFailed) as caught:
        for batch in one.batches(None):
            batches.append(batch)
    return batches, str(caught.value)


NEXT = "http://shop.example/b"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['</b>; rel="next"'], NEXT),
        (['</b>; rel="next foo"'], NEXT),
        (['</b>; rel="foo\tNext"'], NEXT),
        (["</b>; rel=NEXT"], NEXT),
        (["</b>;REL = next"], NEXT),
        (['<b>;title="a, b; rel=prev";rel=next'], NEXT),
        ([r'<b>; title="\", <c>; rel=\"next\""; rel=next'], NEXT),
        (['</a>; rel="prev", </b>; rel="next", </c>; rel="next"'], NEXT),
        (['</a>; rel="prev"', '</c>; rel="last"', '</b>; rel="next"'], NEXT),
        (["</a,b;c>; rel=last, </b>; rel=next"], NEXT),
        ([", ,</b>; rel=next ;;"], NEXT),
        (["rubbish, </b>; rel=next"], NEXT),
        (["http://x.example/; rel=next, </b>; rel=next"], NEXT),
        (["<http://other.example/?p=2>; rel=next"], "http://other.example/?p=2"),
        (["<http://[x>; rel=next"], "http://[x"),
        (["</b>; rel=prev; rel=next"], None),
        (["</b>; rel=nextpage"], None),
        (["</b>; title=next"], None),
        (["</b>"], None),
        (['</b>; rel="next'], None),
        ([""], None),
        ([], None),
    ],
)  # fmt: skip
def test_link_headers_are_parsed_as_in_rfc_8288(headers: list[str], expected: str | None) -> None:
    assert next_link(headers, URL("http://shop.example/a?page=1")) == expected


@pytest.mark.parametrize(
    "text", ["<", "<a>;", '<a>; x="', "<a>" + "; " * 30_000, "," * 60_000, "<a>" + " " * 60_000]
)
def test_long_invalid_link_headers_are_parsed_fast(text: str) -> None:
    assert next_link([text], URL("http://shop.example/")) is None


def test_all_link_headers_are_searched(policy: SourcePolicy, site: Site, table: Read) -> None:
    def answer(request: web.Request) -> web.Response:
        start = int(request.query.get("from", 0))
        links = [("Link", '</>; rel="first"')]
        if start < 20:
            links.append(("Link", f'</?from={start + 10}>; rel="NEXT page"'))
        return web.json_response(ROWS[start : start + 10], headers=CIMultiDict(links))

    answers(site, answer)
    assert table(chef(policy, site, paginator={"type": "header_link"}))[1]["user_id"] == USERS


PAGE = {"result": {"rows": ROWS, "next": "abc", "total": 25, "more": True}, "links": {"self": "/a"}}


@pytest.mark.parametrize(
    ("paginator", "sentence"),
    [
        ({"type": "cursor", "cursor_path": "result.nxt"},
         "There is no value at 'result.nxt' in the first response, so it was treated as the only one; found "
         "'result.next': correct cursor_path."),
        ({"type": "json_link", "next_path": "links.next"},
         "There is no value at 'links.next' in the first response, so it was treated as the only one; found "
         "'result.next': correct next_path."),
        ({"type": "cursor", "cursor_path": "result"},
         "There is no text or number at 'result' in the first response, so it was treated as the only one; found "
         "'result.next': correct cursor_path."),
        ({"type": "header_cursor", "header": "X-Nxt"},
         "There is no header 'X-Nxt' in the first response, so it was treated as the only one; found 'X-Next': "
         "correct header."),
        ({"type": "header_link"},
         "There is no Link header in the first response, so it was treated as the only one; found 'X-Next': "
         "correct the paginator."),
    ],
    ids=lambda one: one["type"] if isinstance(one, dict) else "",
)  # fmt: skip
def test_a_missing_link_or_cursor_gives_a_hint(
    policy: SourcePolicy, site: Site, paginator: dict[str, str], sentence: str
) -> None:
    answers(site, lambda request: web.json_response(PAGE, headers={"X-Next": "abc"}))
    assert hints(chef(policy, site, paginator=paginator, data_selector="result.rows")) == [sentence]
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("way", "document", "headers"),
    [
        (Cursor(type="cursor", cursor_path="meta.next"), {"meta": {"next": None}}, {}),
        (Cursor(type="cursor", cursor_path="meta.next"), {"meta": {"next": ""}}, {}),
        (Cursor(type="cursor", cursor_path="meta.next"), {"meta": None}, {}),
        (Cursor(type="cursor", cursor_path="meta.next"), {"meta": {}}, {}),
        (JsonLink(type="json_link"), {"next": False}, {}),
        (HeaderCursor(type="header_cursor", header="X-Next"), [], {"x-next": ""}),
        (HeaderLink(type="header_link"), [], {"link": "</>; rel=first"}),
    ],
)
def test_a_null_or_empty_link_gives_no_hint(way: Any, document: Any, headers: dict[str, str]) -> None:
    assert missing_next_hints(way, Response(headers=CIMultiDict(headers)), document) == ()


@pytest.mark.parametrize("document", [None, [], [{"next": "x"}], {"rows": []}, {"a.b": 1, "": 2, "n": {"m": [1]}}])
def test_the_hint_names_no_path_if_none_is_similar(document: Any) -> None:
    assert missing_next_hints(JsonLink(type="json_link"), Response(), document) == (
        "There is no value at 'next' in the first response, so it was treated as the only one: if there are more, "
        "correct next_path.",
    )


def test_an_empty_first_page_gives_no_hint(policy: SourcePolicy, site: Site) -> None:
    answers(site, lambda request: {"items": []})
    assert hints(chef(policy, site, paginator={"type": "json_link"})) == []
    assert hints(chef(policy, site, paginated=True)) == []


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        ({"paginated": True}, "page_size (size_value)"),
        ({"paginator": {"type": "page_number"}}, "page_size"),
        ({"paginator": {"type": "offset"}}, "page_size"),
    ],
)
def test_a_short_first_page_gives_a_hint(
    policy: SourcePolicy, site: Site, entry: dict[str, Any], size: str
) -> None:
    answers(site, lambda request: ROWS[:20])
    assert hints(chef(policy, site, **entry)) == [
        "Page 1 had 20 rows where 100 were requested, so it was treated as the last: if the source never returns "
        f"more than 20, set {size} to 20."
    ]
    answers(site, lambda request: {"items": ROWS[:1]})
    assert hints(chef(policy, site, **entry))[0].startswith("Page 1 had 1 row where 100 were requested")
    answers(site, lambda request: {"items": ROWS[:20], "next": None})
    assert hints(chef(policy, site, **entry)) == []


def test_a_short_last_page_gives_no_hint(policy: SourcePolicy, site: Site) -> None:
    site.pages(lambda page, size: ROWS[(page - 1) * size : page * size])
    assert hints(chef(policy, site, paginated=True, page_size=10)) == []


CHAINS = [
    {"type": "cursor", "cursor_path": "next"},
    {"type": "json_link"},
    {"type": "header_link"},
    {"type": "header_cursor", "header": "X-Next"},
]


@pytest.fixture(params=CHAINS, ids=lambda one: str(one["type"]))
def paginator(request: pytest.FixtureRequest) -> dict[str, str]:
    found: dict[str, str] = request.param
    return found


def chain(site: Site, paginator: dict[str, str], items: Callable[[int], Any], last: int = 10**9) -> None:
    """Serve linked pages, up to the last, of the kind that ``paginator`` reads."""

    def answer(request: web.Request) -> web.Response:
        place = int(request.query.get("cursor", 0))
        following = str(place + 1) if place < last else ""
        link = following and f"/?cursor={following}"
        said = following if paginator["type"] == "cursor" else link
        headers = {"X-Next": following, "Link": f"<{link}>; rel={'next' if link else 'first'}"}
        return web.json_response({"items": items(place), "next": said}, headers=headers)

    answers(site, answer)


def test_an_empty_page_with_a_next_page_is_not_the_end(
    policy: SourcePolicy, site: Site, table: Read, paginator: dict[str, str]
) -> None:
    for nothing in ([], None):
        content = [ROWS[:5], nothing, nothing, ROWS[5:]]
        chain(site, paginator, content.__getitem__, last=3)
        assert table(chef(policy, site, paginator=paginator))[1]["user_id"] == USERS


def test_too_many_empty_pages_are_the_end_with_a_hint(
    policy: SourcePolicy, site: Site, paginator: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_EMPTY_PAGES", 5)
    chain(site, paginator, lambda place: ROWS if place == 4 else [])
    assert hints(chef(policy, site, paginator=paginator)) == [
        "Reading ended after 5 consecutive pages without rows, although the source names a next page."
    ]
    assert len(site.requests) == 4 + 1 + 5


def test_an_empty_page_that_links_to_itself_is_the_end(policy: SourcePolicy, site: Site, table: Read) -> None:
    def answer(request: web.Request) -> Any:
        start = int(request.query.get("cursor", 0))
        return {"items": ROWS[start : start + 10], "next": min(start + 10, 25)}

    answers(site, answer)
    one = chef(policy, site, paginator={"type": "cursor", "cursor_path": "next"})
    assert table(one)[1]["user_id"] == USERS
    assert len(site.requests) == 4


def test_linked_pages_with_the_same_rows_fail(policy: SourcePolicy, site: Site, paginator: dict[str, str]) -> None:
    chain(site, paginator, lambda place: ROWS[:5])
    batches, sentence = until_failure(chef(policy, site, paginator=paginator))
    advice = (
        "the name of its cursor parameter (cursor_param)" if "cursor" in paginator["type"] else "the paginator"
    )
    assert sentence.endswith(f"returns the same page again and again: correct {advice}, or the source.")
    assert len(site.requests) == 3
    assert sum(batch.n_rows for batch in batches) == 15


def test_pages_that_differ_in_other_columns_are_not_repeated_pages(
    policy: SourcePolicy, site: Site, table: Read, paginator: dict[str, str]
) -> None:
    chain(site, paginator, lambda place: [{"user_id": "u", "at": place}] * 10, last=4)
    assert len(table(chef(policy, site, paginator=paginator))[1]["user_id"]) == 50


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ({"paginated": True, "page_size": 5}, "its page parameter (page_param), or set paginated to false."),
        (
            {"paginator": {"type": "page_number", "page_size": 5}},
            "its page parameter (page_param), or the source.",
        ),
        ({"paginator": {"type": "offset", "page_size": 5}}, "its offset parameter (offset_param), or the source."),
    ],
)
def test_numbered_pages_are_compared_by_their_rows(
    policy: SourcePolicy, site: Site, entry: dict[str, Any], advice: str
) -> None:
    answers(site, lambda request: {"items": ROWS[:5], "time": len(site.requests)})
    _, sentence = until_failure(chef(policy, site, **entry))
    assert sentence.endswith(f"returns the same page again and again: correct the name of {advice}")


def test_a_repeated_cursor_is_reported_with_its_parameter(policy: SourcePolicy, site: Site) -> None:
    answers(site, lambda request: {"items": ROWS, "next": "x"})
    _, sentence = until_failure(chef(policy, site, paginator={"type": "cursor", "cursor_path": "next"}))
    assert sentence.endswith(
        "names a next page that was already read: correct the name of its cursor parameter (cursor_param), "
        "or the source."
    )


def test_columns_keep_the_order_in_which_they_appear(policy: SourcePolicy, site: Site) -> None:
    names = [f"c{number * 7 % 30}" for number in range(30)]
    content = [[dict.fromkeys(names[:15], 1)], [dict.fromkeys(names[10:], 2)], []]
    site.pages(lambda page, size: {"items": content[page - 1]})
    (batch,) = chef(policy, site, paginated=True, page_size=1).batches(None)
    assert list(batch.columns) == list(batch.column_names) == names
    requested = frozenset(names)
    first = page_from_rows([{"x": 1}], requested)
    later = FastPageDecoder(first, requested).decode(json.dumps([{"x": 1}, dict.fromkeys(names, 1)]).encode())
    assert later is not None
    assert list(later.columns) == names
    assert later.column_names == ("x", *names)


def test_rows_before_a_failure_are_yielded(policy: SourcePolicy, site: Site) -> None:
    site.pages(lambda page, size: ROWS[(page - 1) * size : page * size] if page < 3 else {"error": "quota"})
    one = chef(policy, site, paginated=True, page_size=10, concurrent_pages=1)
    batches, counted = [], 0
    with pytest.raises(SourceFailed, match="an object without rows as page 3"):
        for batch in one.batches({"user_id"}):
            batches.append(batch.columns["user_id"].tolist())
            counted += batch.n_bytes
    assert batches == [USERS[:20]]
    assert counted > 20 * len('{"user_id": "u1", "item_id": 1}')


def test_rows_before_a_timeout_are_yielded(policy: SourcePolicy, site: Site) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.query["page"] == "3":
            await asyncio.Event().wait()
        return web.json_response(ROWS[:10] if request.query["page"] == "1" else ROWS[10:20])

    site.answer = answer
    short = policy.model_copy(update={"source_timeout": 0.5})
    batches, sentence = until_failure(chef(short, site, paginated=True, page_size=10, concurrent_pages=1))
    assert [batch.n_rows for batch in batches] == [20]
    assert batches[0].n_bytes > 0
    assert "took longer than 0.5 seconds" in sentence


def test_a_failure_before_the_first_row_yields_no_batch(policy: SourcePolicy, site: Site) -> None:
    site.gives(b"", 403)
    assert until_failure(chef(policy, site))[0] == []
