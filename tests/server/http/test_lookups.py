"""Whom and what a model knows: pages of users and items, those who are alike, what is popular."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from tests.helpers.api_client import Api
from tests.helpers.film_models import FILMS, USERS, put_films

BY_BYTES = sorted(USERS, key=str.encode)


async def pages(api: Api, path: str, name: str, limit: int, prefix: str = "") -> list[dict[str, Any]]:
    """All of a list, page by page, as ``next`` leads."""
    found, after = [], ""
    for _ in range(50):
        asked = f"{path}?model_id=films&limit={limit}" + f"&prefix={quote(prefix)}" * bool(prefix)
        page = await api.ok("GET", asked + (f"&after={quote(after, safe='')}" if after else ""))
        assert (page["model_id"], page["model_version"], page["n_users"], page["n_items"]) == ("films", 1, 10, 12)
        assert len(page["data"]) <= limit
        found += page["data"]
        if page["next"] is None:
            return found
        after = page["next"]
        assert after == page["data"][-1][name] and len(page["data"]) == limit
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("limit", [1, 2, 5, 10, 11, 12, 1000])
async def test_pages_contain_everything_once(films: Api, limit: int) -> None:
    users = await pages(films, "/users", "user_id", limit)
    assert users == [{"user_id": name, "interactions": len(USERS[name])} for name in BY_BYTES]
    items = await pages(films, "/items", "item_id", limit)
    assert [item["item_id"] for item in items] == sorted(FILMS, key=str.encode)
    for item in items:
        known = FILMS[item["item_id"]]
        released = {"released": f"{known['released']}T00:00:00.000Z"} if "released" in known else {}
        assert item["attributes"] == known | released
        assert item["interactions"] == sum(item["item_id"] in taken for taken in USERS.values())


async def test_prefixes(films: Api) -> None:
    for prefix in ("a", "ann", "ann/", "b", "Zo", "Zoë", "é", "zz", "\n", "0"):
        users = await pages(films, "/users", "user_id", 2, prefix)
        assert [user["user_id"] for user in users] == [name for name in BY_BYTES if name.startswith(prefix)]
    page = await films.ok("GET", "/users?model_id=films&prefix=b&after=zz")
    assert (page["data"], page["next"]) == ([], None)
    page = await films.ok("GET", "/users?model_id=films&prefix=g&after=a")
    assert [user["user_id"] for user in page["data"]] == ["gus"]
    page = await films.ok("GET", "/users?model_id=films&after=bobby&limit=1")
    assert page["data"][0]["user_id"] == "cem", "after need not be there itself"


async def test_a_model_without_attributes_has_none(films: Api) -> None:
    page = await films.ok("GET", "/items?model_id=plain&limit=2")
    assert [item["attributes"] for item in page["data"]] == [{}, {}]


@pytest.mark.parametrize("model", ["films", "plain", "als", "ease"])
async def test_similar_items(films: Api, model: str) -> None:
    if model in ("als", "ease"):
        await asyncio.to_thread(put_films, films.rec.data_dir / "models", model, algorithm=model)
    for item in FILMS:
        answer = await films.ok("POST", "/similar_items", {"model_id": model, "item_id": item, "n": 1000})
        found = {one["item_id"]: one["score"] for one in answer["items"]}
        assert answer["item_id"] == item and set(found) == set(FILMS) - {item}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert all(-1 <= score <= 1 for score in found.values())
        assert answer["n_recommendations"] == len(FILMS) - 1 and "source" not in answer
    if model != "als":
        nearest = (await films.ok("GET", f"/similar_items?model_id={model}&item_id=alien&n=1"))["items"][0]
        assert nearest["item_id"] == "them"


@pytest.mark.parametrize("model", ["films", "ease", "als", "popular"])
async def test_similar_users(films: Api, model: str) -> None:
    if model in ("als", "ease"):
        await asyncio.to_thread(put_films, films.rec.data_dir / "models", model, algorithm=model)
    for user in USERS:
        path = f"/similar_users?model_id={model}&user_id={quote(user, safe='')}"
        whole = (await films.ok("GET", f"{path}&n=1000"))["users"]
        assert {one["user_id"] for one in whole} == set(USERS) - {user}
        scores = [one["score"] for one in whole]
        assert scores == sorted(scores, reverse=True) and all(-1 <= score <= 1 for score in scores)
        assert (await films.ok("GET", f"{path}&n=3&offset=2"))["users"] == whole[2:5]
        for beyond in (9, 10, 10**19):
            assert (await films.ok("GET", f"{path}&offset={beyond}"))["users"] == []
    if model in ("films", "ease"):
        nearest = await films.ok("GET", f"/similar_users?model_id={model}&user_id=ann&n=1")
        assert nearest["users"][0]["user_id"] in ("fay", "Zoë")


async def test_popular_items(films: Api) -> None:
    overall = await films.ok("GET", "/popular_items?model_id=films&n=1000")
    takers = {item: sum(item in taken for taken in USERS.values()) / len(USERS) for item in FILMS}
    assert {one["item_id"]: one["score"] for one in overall["items"]} == pytest.approx(takers, rel=1e-6)
    assert (overall["source"], overall["model_version"]) == ("popular", 1)
    recent = await films.ok("GET", "/popular_items?model_id=films&n=1000&popularity=recent")
    weights = dict.fromkeys(FILMS, 0.0)
    for age, name in enumerate(reversed(BY_BYTES)):  # a month apart: each is worth half the next
        for item in USERS[name]:
            weights[item] += 0.5**age
    shares = {item: weight / sum(weights.values()) for item, weight in weights.items()}
    assert {one["item_id"]: one["score"] for one in recent["items"]} == pytest.approx(shares, rel=1e-5)
    assert recent["source"] == "recent"


async def test_missing_ids_are_named(films: Api) -> None:
    for item in ("x", "a/b", "é", "a\nb", "x" * 256):
        for method, path, body in (
            ("GET", f"/similar_items?model_id=films&item_id={quote(item, safe='')}", None),
            ("POST", "/similar_items", {"model_id": "films", "item_id": item}),
        ):
            answer = await films.ask(method, path, body)
            assert (answer.status, answer.code) == (404, "item_not_found"), path
            assert "\n" not in answer.body["detail"] and "films" in answer.body["detail"]
        answer = await films.get(f"/similar_users?model_id=films&user_id={quote(item, safe='')}")
        assert (answer.status, answer.code) == (404, "user_not_found")
    for path in (
        "/users",
        "/items",
        "/popular_items",
        "/similar_items?item_id=heat",
        "/similar_users?user_id=ann",
    ):
        asked = f"{path}{'&' if '?' in path else '?'}model_id="
        assert (await films.get(f"{asked}nothing")).code == "model_not_found"
        await films.post("/create_model", {"model_id": "new", "algorithm": "nmf"})
        assert (await films.get(f"{asked}new")).code == "model_not_trained"
