"""Invalid request options: each is rejected with 422, at its field, in our wording, by GET and by POST."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest

from recserver._internal.recommend.request_options import RankOptions, UserOptions
from tests.helpers.api_client import Answer, Api
from tests.helpers.film_models import FILMS, ODD

pytestmark = pytest.mark.slow

FOREIGN_WORDS = re.compile(r"[Ii]nput|[Ss]tring|should|Value error|argument|pattern|\b(?:int|float|bool|dict)\b")

TEXTS: dict[str, list[str]] = {
    "n": ["", "0", "-1", "1001", "1.5", "x", "9" * 5000], "offset": ["", "-1", "1.5", "x", "1e3"],
    "exclude": ["", "x" * 257], "candidates": ["", "x" * 257],
    "filter": ["", "genre", "=x", "genre=", "x" * 300, "genre~Comedy", "genre=" + "x" * 300, "a|b=c",
               "genre<Comedy",
               "price=cheap", "price<1_0", "released>soon", "released=9"],
    "boost": ["", "genre=Comedy", "genre=Comedy*", "genre=Comedy*x", "genre=Comedy*-1", "genre=Comedy*1001", "*2",
              "genre=Comedy*nan", "genre=Comedy*1e2", "price=cheap*2"],
    "max_per": ["", "genre", "genre:", "genre:0", "genre:-1", "genre:x", ":2", "genre:1001", "a|b:1"],
    "diversity": ["", "-0.1", "1.01", "x", "nan", "1e-1"],
}  # fmt: skip
PERSONAL_TEXTS: dict[str, list[str]] = {
    "interactions": ["", "x" * 257], "exclude_seen": ["", "yes", "2"], "explain": ["", "why"],
    "fallback": ["", "none"], "popularity": ["", "lately", "Recent"],
}  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "n": [True, 0, 1.5, [], {}, [5]], "offset": [True, -1, 1.5, [], {}],
    "exclude": [True, {}, [[]], [True], ["a", ""], [1.5, {}]], "candidates": [{}, [["a"]], [True]],
    "filter": [5, True, {}, [5], [{}], {"attribute": "genre"}, {"attribute": 5, "value": 1},
               {"attribute": "price", "operator": "~", "value": 1}, {"attribute": "price", "value": []},
               {"attribute": "price", "operator": "<", "values": [1, 2]}, {"attribute": "price", "values": "5"},
               {"attribute": "price", "value": 1, "values": [1]}, {"attribute": "price", "value": 1, "more": 1},
               {"attribute": "price", "values": ["x"] * 101}, ["price<5"] * 51],
    "boost": [5, True, {}, [[]], {"filter": "price<5"}, {"factor": 5}, {"filter": "price<5", "factor": "x"},
              {"filter": "", "factor": 2}, {"filter": "price<5", "factor": True}, {"filter": 5, "factor": 2},
              {"filter": "price<5", "factor": 2, "more": 1}, ["price<5*2"] * 51],
    "max_per": [5, True, {}, [[]], {"attribute": "genre"}, {"attribute": 5, "count": 1},
                {"attribute": "genre", "count": 1.5}, {"attribute": "genre", "count": True}, ["genre:1"] * 11],
    "diversity": [True, -1, 2, [], {}, "0,5"],
}  # fmt: skip
PERSONAL_VALUES: dict[str, list[Any]] = {
    "interactions": [True, {}, [[]], [True], {"rating": 5}, {"item_id": "alien", "rating": "5"},
                     {"item_id": "alien", "rating": 1e10}, {"item_id": ""}, {"item_id": "alien", "rating": True},
                     [{"item_id": ["alien"]}]],
    "exclude_seen": [2, 1, "yes", [], {}], "explain": [1, "why", []], "fallback": [0, "popular", {}],
    "popularity": [True, 5, [], "best"],
}  # fmt: skip
ABOUT: dict[str, dict[str, Any]] = {
    "/recommend": {"user_id": "ann"}, "/similar_items": {"item_id": ODD}, "/popular_items": {},
    "/session_recommend": {"interactions": ["alien"]}, "/recommend_batch": {"user_ids": ["ann", "nobody"]},
    "/rank": {"item_ids": ["heat"]},
}  # fmt: skip


def test_every_option_has_bad_values() -> None:
    """A new option needs some, as texts of a query string and as values of a body."""
    options = UserOptions.__annotations__.keys() | RankOptions.__annotations__.keys()
    assert (TEXTS | PERSONAL_TEXTS).keys() >= options
    assert (VALUES | PERSONAL_VALUES).keys() >= options


def refused(answer: Answer, place: str, name: str, value: object) -> None:
    """Hold an answer to what a refusal of one field must be."""
    assert (answer.status, answer.locs[:1]) == (422, [[place, name]]), f"{value!r:.99}: {answer.body}"
    said = [answer.body["detail"], *(one["msg"] for one in answer.body["errors"])]
    assert not [one for one in said if FOREIGN_WORDS.search(one) or "\n" in one], said
    assert answer.body["detail"].startswith(name) and len(answer.body["detail"]) < 500, said


@pytest.mark.parametrize("name", [*TEXTS, *PERSONAL_TEXTS])
async def test_wrong_texts_in_a_query(films: Api, name: str) -> None:
    paths = ["/recommend?user_id=ann&", "/recommend?user_id=nobody&"]
    if name in TEXTS:
        paths += ["/popular_items?", f"/similar_items?item_id={quote(ODD, safe='')}&"]
    for value in (TEXTS | PERSONAL_TEXTS)[name]:
        for path in paths:
            refused(await films.get(f"{path}model_id=films&{name}={quote(value, safe='')}"), "query", name, value)


@pytest.mark.parametrize("path", ABOUT)
async def test_wrong_values_in_a_body(films: Api, path: str) -> None:
    known = TEXTS.keys() if path in ("/similar_items", "/popular_items") else {*TEXTS, *PERSONAL_TEXTS}
    if path == "/rank":
        known = {"boost", "diversity", *PERSONAL_TEXTS}
    for name in sorted(known):
        wrong = [*(VALUES | PERSONAL_VALUES)[name], *(TEXTS | PERSONAL_TEXTS)[name]]
        for value in wrong:
            answer = await films.post(path, {"model_id": "films", **ABOUT[path], name: value})
            refused(answer, "body", name, value)


@pytest.mark.parametrize(("path", "name"), [("/rank", "item_ids"), ("/recommend_batch", "user_ids")])
async def test_wrong_lists(films: Api, path: str, name: str) -> None:
    wrong: list[Any] = [True, {}, [[]], [True], [""], ["x" * 257], {"item_id": "a"}, ["a"] * 10_001]
    for value in wrong:
        refused(await films.post(path, {"model_id": "films", name: value}), "body", name, value)
    refused(await films.post(path, {"model_id": "films"}), "body", name, None)


async def test_wrong_pages(films: Api) -> None:
    for path in ("/users", "/items"):
        for asked in ("limit=0", "limit=1001", "limit=x", "limit=", f"after={'x' * 257}"):
            answer = await films.get(f"{path}?model_id=films&{asked}")
            refused(answer, "query", asked.partition("=")[0], asked)
    for asked in ("n=0", "n=1001", "offset=-1", "offset=x"):
        answer = await films.get(f"/similar_users?model_id=films&user_id=ann&{asked}")
        refused(answer, "query", asked.partition("=")[0], asked)


@pytest.mark.parametrize("path", ["/recommend", "/session_recommend", "/similar_items", "/popular_items"])
async def test_at_most_ten_thousand_ids_are_accepted(films: Api, path: str) -> None:
    many = [f"unknown {number}" for number in range(10_000 - 2)] + ["jaws", "zodiac"]
    asked = {"model_id": "films", "n": 1000, **ABOUT[path]}
    for name in ("exclude", "candidates", *(["interactions"] if path == "/recommend" else [])):
        answer = await films.ok("POST", path, {**asked, name: many})
        items = answer.get("items") or answer["predictions"]["ann"]
        found = {item["item_id"] for item in items}
        assert ("jaws" in found, "heat" in found) == ((name == "candidates"), name != "candidates"), name
        too_many = await films.post(path, {**asked, name: [*many, "heat"]})
        refused(too_many, "body", name, "10,001")
        assert "10000" in too_many.body["detail"]


@pytest.mark.parametrize("path", ABOUT)
async def test_errors_about_unknown_attributes_list_the_known_ones(films: Api, path: str) -> None:
    options = {"filter": "year>1980", "boost": "year>1980*2", "max_per": "year:1"}
    for name, value in options.items():
        if path == "/rank" and name != "boost":
            continue
        answer = await films.post(path, {"model_id": "films", **ABOUT[path], name: value})
        refused(answer, "body", name, value)
        assert "'year'" in answer.body["detail"] and "genre, price, released" in answer.body["detail"]
        answer = await films.post(path, {**ABOUT[path], "model_id": "plain", "item_id": "heat", name: value})
        refused(answer, "body", name, value)
        assert "item_features_data_chef_id" in answer.body["detail"]
    if path == "/recommend":
        answer = await films.get("/recommend?user_id=ann&model_id=films&filter=price<5&filter=year>1980")
        refused(answer, "query", "filter", "year")


async def test_recent_needs_times_for_every_user(films: Api) -> None:
    for path, about in ABOUT.items():
        if path == "/similar_items":
            continue
        answer = await films.post(path, {"model_id": "plain", "popularity": "recent", **about})
        refused(answer, "body", "popularity", "recent")
    known = {"model_id": "plain", "popularity": "recent", "fallback": False, "user_id": "ann"}
    assert (await films.ok("POST", "/recommend", known))["source"] == "personal"


async def test_contradicting_options_are_handled(films: Api) -> None:
    asked = {"model_id": "films", "n": 1000, **ABOUT["/recommend"]}
    for options in (
        {"exclude": ["heat"], "candidates": ["heat"]}, {"filter": ["price<5", "price>5"]},
        {"filter": "genre=Nothing"}, {"candidates": ["airplane"]}, {"candidates": ["unknown"]},
        {"interactions": ["heat"], "candidates": ["heat"]},
    ):  # fmt: skip
        assert (await films.ok("POST", "/recommend", asked | options))["predictions"] == {"ann": []}, options
    for one, other in (("fallback=true", "fallback=false"), ("n=1", "n=2"), ("diversity=0", "diversity=1")):
        answer = await films.get(f"/recommend?user_id=ann&model_id=films&{one}&{other}")
        assert (answer.status, answer.locs) == (422, [["query", one.partition("=")[0]]])


async def test_ids_of_any_text_are_returned_unchanged(films: Api) -> None:
    for user in ("a/b", "../..", "€ ☕", "a\r\nb", "\x07\x1b[31m", "<b>", '"', "{x}", "%2F", "🍿" * 64):
        path = f"/recommend/{quote(user, safe='').replace('.', '%2E')}/films"
        for answer in (
            await films.ok("GET", path),
            await films.ok("GET", f"/recommend?model_id=films&user_id={quote(user, safe='')}"),
            await films.ok("POST", "/recommend", {"model_id": "films", "user_id": user}),
        ):
            assert answer["user_id"] == user and list(answer["predictions"]) == [user]
        ranked = await films.ok("POST", "/rank", {"model_id": "films", "item_ids": [user, ODD]})
        assert (ranked["unknown_item_ids"], ranked["items"][0]["item_id"]) == ([user], ODD)
        (line,) = await films.lines("/recommend_batch", {"model_id": "films", "user_ids": user})
        assert line["user_id"] == user
    for path in ("user_id=%FF", "user_id=ann&exclude=%FF", "user_id=ann&filter=genre=%C3"):
        assert (await films.get(f"/recommend?model_id=films&{path}")).status == 422
    for body in (
        b'{"model_id":"films","user_id":"\\ud800"}',
        b'{"model_id":"films","user_id":"a","exclude":"\\u0000"}',
    ):
        assert (await films.ask("POST", "/recommend", raw=body)).status == 400


async def test_a_url_holds_a_few_hundred_ids(films: Api) -> None:
    asked = "&".join(f"exclude=unknown{number}" for number in range(300))
    answer = await films.ok("GET", f"/recommend?user_id=ann&model_id=films&{asked}&exclude=home")
    assert "home" not in str(answer["predictions"])


async def test_unknown_fields_are_listed(films: Api) -> None:
    answer = await films.ok("POST", "/popular_items", {"model_id": "films", "interactions": ["heat"], "filtre": 1})
    assert len(answer["warnings"]) == 2 and "filtre" in answer["warnings"][1]
    assert len(answer["items"]) == min(10, len(FILMS))


async def test_the_first_page_accepts_an_offset(films: Api) -> None:
    for path in ("/items", "/users"):
        assert await films.ok("GET", f"{path}?model_id=films&prefix=&after=") == await films.ok(
            "GET", f"{path}?model_id=films"
        )
