"""All request options: by GET and by POST, alone and combined."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from recserver import RecServer, Settings
from recserver._internal.results.base import plain
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api, Serve
from tests.helpers.film_models import FILMS, ODD, USERS, put_films, swap_films

pytestmark = pytest.mark.slow

Options = dict[str, Any]

ON_ITEMS: list[Options] = [
    {}, {"n": 3}, {"n": "3"}, {"offset": 2}, {"n": 2, "offset": 3}, {"exclude": ["home"]},
    {"exclude": ["home", ODD]}, {"exclude": ["nobody knows this"]}, {"candidates": ["heat"]},
    {"candidates": ["heat", ODD, "brazil", "heat"]},
    {"filter": ["genre=Comedy"]}, {"filter": ["genre=Comedy", "price<10"]}, {"filter": ["genre!=Comedy"]},
    {"filter": ["released>=1985-01-01"]}, {"filter": ["price>= 9.5 "]}, {"boost": ["genre=Horror*3"]},
    {"boost": ["genre=Horror*3", "price<5*0"]}, {"max_per": ["genre:1"]}, {"max_per": ["genre:2", "price:1"]},
    {"diversity": 0.5}, {"diversity": "0.5"}, {"diversity": 1},
    {"n": 4, "offset": 1, "exclude": ["jaws"], "filter": ["price<13"], "boost": ["genre=Drama*2"],
     "max_per": ["genre:3"], "diversity": 0.3},
]  # fmt: skip
OF_PEOPLE: list[Options] = [
    {"exclude_seen": False}, {"interactions": ["alien"]}, {"interactions": ["alien", ODD, "nobody knows this"]},
    {"explain": True}, {"explain": "1", "boost": ["genre=Drama*2"]}, {"fallback": False}, {"popularity": "recent"},
    {"popularity": "overall", "fallback": True}, {"fallback": False, "popularity": "recent"},
]  # fmt: skip
NOT_IN_ORDER = [{"max_per": ["genre:1"]}, {"diversity": 0.6}, {"diversity": 0.6, "max_per": ["genre:2"]}]


def query(options: Options) -> str:
    """Options as a query: each value of a list by itself."""
    texts = {
        name: [
            str(one).lower() if isinstance(one, bool) else str(one)
            for one in (value if isinstance(value, list) else [value])
        ]
        for name, value in options.items()
    }
    return urlencode(texts, doseq=True, quote_via=quote, safe="")


async def both(api: Api, path: str, options: Options) -> dict[str, Any]:
    """The answer to GET, which must be that to POST."""
    got = await api.ok("GET", f"{path}?{query(options)}")
    posted = await api.ok("POST", path, options)
    assert got | {"datetime": ""} == posted | {"datetime": ""}
    return got


async def scores(api: Api, user: str = "ann", model: str = "films", **options: Any) -> dict[str, float]:
    """The items that somebody is recommended, best first, with their scores."""
    asked = {"user_id": user, "model_id": model, "n": 1000} | options
    answer = await api.ok("POST", "/recommend", asked)
    return {item["item_id"]: item["score"] for item in answer["predictions"][user]}


async def everything(api: Api, user: str = "ann") -> dict[str, float]:
    """All items for somebody, in their order."""
    found = await scores(api, user, exclude_seen=False)
    assert set(found) == set(FILMS)
    return found


# Both ways


@pytest.mark.parametrize("user", ["ann", "ann/b\n", "nobody"])
async def test_get_and_post_recommend_the_same(films: Api, user: str) -> None:
    for options in [*ON_ITEMS, *OF_PEOPLE]:
        answer = await both(films, "/recommend", {"user_id": user, "model_id": "films", **options})
        assert list(answer["predictions"]) == [user] and "warnings" not in answer
        assert answer["n_recommendations"] == len(answer["predictions"][user])
        if "n" not in options and "exclude_seen" not in options:
            path = f"/recommend/{quote(user, safe='')}/films?{query(options)}"
            assert (await films.ok("GET", path))["predictions"] == answer["predictions"]


@pytest.mark.parametrize("path", ["/similar_items", "/popular_items"])
async def test_get_and_post_find_the_same_items(films: Api, path: str) -> None:
    about = {"model_id": "films"} | ({"item_id": ODD} if path == "/similar_items" else {"popularity": "recent"})
    for options in ON_ITEMS:
        answer = await both(films, path, about | options)
        assert answer["n_recommendations"] == len(answer["items"]) and answer["model_version"] == 1


async def test_one_value_is_a_list_of_one(films: Api) -> None:
    asked = {"user_id": "ann", "model_id": "films"}
    for name, value in {
        "exclude": "home", "candidates": ODD, "filter": "genre=Comedy", "boost": "genre=Horror*3",
        "max_per": "genre:1", "interactions": "alien",
    }.items():  # fmt: skip
        single = await films.ok("POST", "/recommend", {**asked, name: value})
        assert single["predictions"] == (await both(films, "/recommend", {**asked, name: [value]}))["predictions"]


async def test_texts_and_objects_are_equivalent(films: Api) -> None:
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("filter", "genre=Comedy", {"attribute": "genre", "value": "Comedy"}),
        ("filter", "price<9.5", {"attribute": "price", "operator": "<", "value": 9.5}),
        ("boost", "genre=Drama*2.5", {"filter": "genre=Drama", "factor": 2.5}),
        ("boost", "price<9*0.5", {"filter": {"attribute": "price", "operator": "<", "value": 9}, "factor": 0.5}),
        ("max_per", "genre:1", {"attribute": "genre", "count": 1}),
        ("interactions", "alien", {"item_id": "alien"}),
        ("interactions", "alien", {"item_id": "alien", "rating": 1, "at": "noon"}),
    ]
    for name, text, full in ways:
        as_text: Options = {name: text}
        as_object: Options = {name: [full]}
        assert await scores(films, **as_text) == await scores(films, **as_object), full


async def test_a_list_of_values_matches_any_of_them(films: Api) -> None:
    either = {"attribute": "genre", "values": ["Horror", "Drama"]}
    ranked = await everything(films)
    wanted = [item for item in ranked if {"Horror", "Drama"} & set(FILMS[item].get("genre", ()))]
    assert list(await scores(films, exclude_seen=False, filter=either)) == wanted
    neither = await scores(films, exclude_seen=False, filter=either | {"operator": "!="})
    assert list(neither) == [item for item in ranked if item not in wanted]


async def test_commas_are_not_separators(films: Api) -> None:
    answer = await films.ok("GET", "/recommend?user_id=ann&model_id=films&candidates=heat,home")
    assert answer["predictions"] == {"ann": []}


# What each wish means


@pytest.mark.parametrize("user", ["ann", "nobody"])
async def test_exclusions_do_not_change_other_items(films: Api, user: str) -> None:
    ranked = await everything(films, user)
    items = list(ranked)
    for options, wanted in (
        ({"exclude": items[:3]}, items[3:]),
        ({"candidates": items[5:8] + items[:2] + ["unknown"]}, items[:2] + items[5:8]),
        ({"candidates": items[:4], "exclude": items[1:]}, items[:1]),
        ({"candidates": []}, []),
        ({"exclude": items}, []),
        ({"filter": "genre=Sci-Fi"}, [one for one in items if "Sci-Fi" in FILMS[one].get("genre", ())]),
        ({"filter": ["price>5", "price<=11"]}, [one for one in items if 5 < FILMS[one].get("price", 0) <= 11]),
        ({"filter": "released<1980-01-01"}, [one for one in items if FILMS[one].get("released", "2") < "1980"]),
        ({"filter": ["genre=Horror", "genre!=Horror"]}, []),
        ({"n": 4, "offset": 3}, items[3:7]),
    ):
        found = await scores(films, user, exclude_seen=False, **options)
        assert found == {item: ranked[item] for item in wanted} and list(found) == wanted, options


async def test_filters_apply_to_all_items(films: Api) -> None:
    """They bear on all items, and not on the best few."""
    worst = list(await everything(films))[-1]
    assert list(await scores(films, n=1, exclude_seen=False, filter=f"price={FILMS[worst]['price']}")) == [worst]


async def test_boosts_raise_and_lower_scores(films: Api) -> None:
    ranked = await everything(films)
    for factor in (0, 0.5, 1, 3, 1000):
        found = await scores(films, exclude_seen=False, boost=f"genre=Horror*{factor}")
        for item, score in ranked.items():
            is_chosen = "Horror" in FILMS[item].get("genre", ())
            wanted = score + (factor - 1) * abs(score) if is_chosen else score
            assert found[item] == pytest.approx(wanted, rel=1e-5, abs=1e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)


async def test_quotas_keep_the_order(films: Api) -> None:
    for most in (1, 2, 4):
        wanted, held = [], dict.fromkeys(("Comedy", "Drama", "Horror", "Sci-Fi"), 0)
        for item in await everything(films):
            genres = FILMS[item].get("genre", [])
            if all(held[genre] < most for genre in genres):
                wanted.append(item)
                held |= {genre: held[genre] + 1 for genre in genres}
        assert "home" in wanted, "what has no genre is free"
        assert list(await scores(films, exclude_seen=False, max_per=f"genre:{most}")) == wanted


async def test_diversity_starts_with_the_best_item(films: Api) -> None:
    ranked = await everything(films)
    assert list(await scores(films, exclude_seen=False, diversity=0)) == list(ranked)
    orders = {tuple(await scores(films, exclude_seen=False, diversity=share)) for share in (0, 0.5, 1)}
    assert len(orders) > 1
    for order in orders:
        assert order[0] == next(iter(ranked)) and set(order) == set(ranked)
    assert await scores(films, exclude_seen=False, diversity=1) == ranked, "scores are those of the model"


@pytest.mark.parametrize("options", [{}, {"filter": "price<12"}, *NOT_IN_ORDER])
async def test_pages_are_pages_of_one_order(films: Api, options: Options) -> None:
    whole = list(await scores(films, exclude_seen=False, **options))
    for n in (1, 2, 5):
        pages = [
            list(await scores(films, exclude_seen=False, n=n, offset=at, **options)) for at in range(0, 13, n)
        ]
        assert list(chain.from_iterable(pages)) == whole


@pytest.mark.parametrize("options", [{}, *NOT_IN_ORDER])
async def test_pages_past_the_end_are_empty(films: Api, options: Options) -> None:
    for offset in (12, 13, 10**9, 10**30):
        asked = {"model_id": "films", "offset": offset, **options}
        for path, about in (
            ("/recommend", {"user_id": "nobody"}), ("/similar_items", {"item_id": "heat"}), ("/popular_items", {}),
            ("/session_recommend", {"interactions": ["heat"]}),
        ):  # fmt: skip
            answer = await films.ok("POST", path, asked | about)
            assert (answer["n_recommendations"], answer.get("items", [])) == (0, []), path
    assert (await films.ok("GET", f"/recommend/ann/films?offset={'9' * 20}"))["predictions"] == {"ann": []}


# Who is answered from what


async def test_sources_of_recommendations(films: Api) -> None:
    for options, source in (
        ({"user_id": "ann"}, "personal"),
        ({"user_id": "ann", "interactions": ["alien"]}, "personal"),
        ({"user_id": "ann", "popularity": "recent"}, "personal"),
        ({"user_id": "nobody", "interactions": ["alien"]}, "fold_in"),
        ({"user_id": "nobody", "interactions": ["alien"], "fallback": False}, "fold_in"),
        ({"user_id": "nobody", "interactions": ["unknown"]}, "popular"),
        ({"user_id": "nobody", "interactions": {"item_id": "alien", "rating": -1}}, "popular"),
        ({"user_id": "nobody"}, "popular"),
        ({"user_id": "nobody", "popularity": "recent"}, "recent"),
        ({"user_id": "nobody", "fallback": False}, None),
    ):
        answer = await films.ok("POST", "/recommend", {"model_id": "films", **options})
        assert (answer["source"], bool(answer["n_recommendations"])) == (source, source is not None), options


async def test_interactions_of_a_request_change_the_recommendations(films: Api) -> None:
    before = await scores(films)
    after = await scores(films, interactions=["alien", "jaws"])
    assert "alien" in before and not {"alien", "jaws"} & set(after)
    assert after["them"] > before["them"]
    kept = await scores(films, interactions=["alien", "jaws"], exclude_seen=False)
    assert set(kept) == set(FILMS) and after.items() <= kept.items()


async def test_known_interactions_change_little(films: Api) -> None:
    """Somebody new with the interactions of a user gets what the user gets, but for how far a training went."""
    for user, items in USERS.items():
        own, new = await scores(films, user), await scores(films, "nobody", interactions=items)
        assert list(new)[:1] == list(own)[:1] and set(new) == set(own)
        assert new == pytest.approx(own, abs=0.02)


async def test_the_last_interaction_with_an_item_counts(films: Api) -> None:
    said = [{"item_id": "alien", "rating": 0}, "jaws", {"item_id": "jaws", "rating": -5}, "alien"]
    twice = await scores(films, "nobody", interactions=said, exclude_seen=False)
    once = await scores(films, "nobody", interactions=["alien"], exclude_seen=False)
    assert twice == pytest.approx(once, rel=1e-5)


async def test_session_recommend_equals_fold_in_of_a_new_user(films: Api) -> None:
    for options in [*ON_ITEMS, *(one for one in OF_PEOPLE if "interactions" not in one)]:
        asked = {"model_id": "films", "interactions": ["alien", ODD], **options}
        session = await films.ok("POST", "/session_recommend", asked)
        assert session["source"] == "fold_in" and "user_id" not in session
        named = await films.ok("POST", "/recommend", asked | {"user_id": "nobody"})
        assert session["items"] == named["predictions"]["nobody"]
    by_ids = {"model_id": "films", "item_ids": ["alien", ODD]}
    assert (await films.ok("POST", "/session_recommend", by_ids))["source"] == "fold_in"
    nothing = await films.ok("POST", "/session_recommend", {"model_id": "films", "interactions": []})
    assert nothing["source"] == "popular"


@pytest.mark.parametrize("algorithm", ["nmf", "als", "svd", "ease", "item_knn", "popular"])
async def test_shares_add_up_to_the_score(films: Api, algorithm: str) -> None:
    await asyncio.to_thread(put_films, films.rec.data_dir / "models", "one", algorithm=algorithm)
    people: list[Options] = [
        {"user_id": "ann"}, {"user_id": "ann", "interactions": ["alien"]}, {"user_id": "nobody"},
        {"user_id": "nobody", "interactions": ["alien", "heat", "clue"]},
        {"user_id": "eve", "exclude_seen": False},
        {"user_id": "ann", "boost": "genre=Horror*3"}, {"user_id": "ann", "boost": "price>0*0"},
    ]  # fmt: skip
    for about in people:
        asked = {"model_id": "one", "explain": True, **about}
        answer = await films.ok("POST", "/recommend", asked)
        own = [*USERS.get(str(about["user_id"]), ()), *about.get("interactions", ())]
        (items,) = answer["predictions"].values()
        assert items or about["user_id"] == "eve"
        for item in items:
            shares = [one["share"] for one in item["because"]]
            assert sum(shares) + item["others"] == pytest.approx(item["score"], rel=1e-6, abs=1e-7), about
            assert {one["item_id"] for one in item["because"]} <= set(own) and len(shares) <= 10
        plain = (await films.ok("POST", "/recommend", asked | {"explain": False}))["predictions"]
        assert [(one["item_id"], one["score"]) for one in items] == [
            (one["item_id"], one["score"]) for one in plain[str(about["user_id"])]
        ]
        assert all(set(one) == {"item_id", "score"} for one in plain[str(about["user_id"])])


async def test_a_version_without_fold_in_warns(films: Api) -> None:
    asked = {"model_id": "popular", "interactions": ["airplane"]}
    for path, about in (("/recommend", {"user_id": "nobody"}), ("/session_recommend", {}),
                        ("/rank", {"item_ids": ["heat"]})):  # fmt: skip
        answer = await films.ok("POST", path, asked | about)
        assert answer["source"] == "popular" and "cannot use the interactions" in answer["warnings"][0], path
    first = (await films.ok("POST", "/session_recommend", asked))["items"][0]["item_id"]
    assert first == "big", "airplane is more popular, but the session has it"


# Ranking


async def test_rank_orders_the_given_items(films: Api) -> None:
    ranked = await everything(films)
    given = ["unknown", "heat", "alien", ODD, "clue", "heat", "other/\x07"]
    answer = await films.ok("POST", "/rank", {"model_id": "films", "user_id": "ann", "item_ids": given})
    found = {item["item_id"]: item["score"] for item in answer["items"]}
    assert found == {item: ranked[item] for item in given if item in ranked}
    assert list(found) == [item for item in ranked if item in given], "clue was seen, and is ranked all the same"
    assert answer["unknown_item_ids"] == ["unknown", "other/\x07"]
    assert (answer["user_id"], answer["source"], answer["n_recommendations"]) == ("ann", "personal", 4)
    unseen = {"model_id": "films", "user_id": "ann", "item_ids": given, "exclude_seen": True}
    assert "clue" not in str((await films.ok("POST", "/rank", unseen))["items"])


async def test_rank_for_a_cold_start_user(films: Api) -> None:
    asked = {"model_id": "films", "item_ids": ["heat", "alien", "big"]}
    for about, source, first in (
        ({}, "popular", "big"), ({"user_id": "nobody"}, "popular", "big"),
        ({"popularity": "recent"}, "recent", "heat"),
        ({"interactions": ["them"]}, "fold_in", "alien"), ({"boost": "genre=Horror*9"}, "popular", "alien"),
        ({"diversity": 0.9}, "popular", "big"), ({"user_id": None}, "popular", "big"),
    ):  # fmt: skip
        answer = await films.ok("POST", "/rank", asked | about)
        assert (answer["source"], answer["items"][0]["item_id"], len(answer["items"])) == (source, first, 3), about
    nothing = await films.ok("POST", "/rank", asked | {"fallback": False})
    assert (nothing["source"], nothing["items"]) == (None, [])
    assert (await films.ok("POST", "/rank", asked | {"item_ids": []}))["items"] == []


async def test_rank_takes_ten_thousand(films: Api) -> None:
    ids = [*FILMS, *(f"unknown {number}" for number in range(10_000 - len(FILMS)))]
    answer = await films.ok("POST", "/rank", {"model_id": "films", "item_ids": ids})
    assert len(answer["items"]) == len(FILMS) and answer["unknown_item_ids"] == ids[len(FILMS) :]


# All of it elsewhere


async def operations(rec: RecServer) -> dict[str, Any]:
    """What the operations return when they are called."""
    options: Options = {"model_id": "films", "filter": ["price>0"], "n": 3}
    results: dict[str, Any] = {
        "recommend": (await rec.recommend("ann", **options, explain=True)).replace(datetime=""),
        "session_recommend": await rec.session_recommend(["alien", ODD], **options),
        "rank": await rec.rank(["heat", ODD, "x"], model_id="films", user_id="ann"),
        "similar_items": await rec.similar_items(ODD, **options),
        "similar_users": await rec.similar_users("ann/b\n", model_id="films", n=3),
        "popular_items": await rec.popular_items(**options, popularity="recent"),
        "users": await rec.users(model_id="films", prefix="a"),
        "items": await rec.items(model_id="films", after="clue", limit=2),
        "recommend_batch": [line async for line in await rec.recommend_batch(["ann", "nobody"], **options)],
    }
    return plain(results)


async def asked_over_http(api: Api) -> dict[str, Any]:
    """The same over HTTP."""
    options = {"model_id": "films", "filter": ["price>0"], "n": 3}
    ann = {"user_id": "ann"}
    return {
        "recommend": (await both(api, "/recommend", options | ann | {"explain": True})) | {"datetime": ""},
        "session_recommend": await api.ok(
            "POST", "/session_recommend", options | {"interactions": ["alien", ODD]}
        ),
        "rank": await api.ok("POST", "/rank", ann | {"model_id": "films", "item_ids": ["heat", ODD, "x"]}),
        "similar_items": await both(api, "/similar_items", options | {"item_id": ODD}),
        "similar_users": await api.ok(
            "GET", f"/similar_users?user_id={quote('ann/b' + chr(10))}&model_id=films&n=3"
        ),
        "popular_items": await both(api, "/popular_items", options | {"popularity": "recent"}),
        "users": await api.ok("GET", "/users?model_id=films&prefix=a"),
        "items": await api.ok("GET", "/items?model_id=films&after=clue&limit=2"),
        "recommend_batch": await api.lines("/recommend_batch", options | {"user_ids": ["ann", "nobody"]}),
    }


async def test_the_library_returns_the_same_as_http(films: Api) -> None:
    assert await operations(films.rec) == await asked_over_http(films)


async def test_a_read_only_server_supports_all_options(films: Api, serve: Serve, settings: Settings) -> None:
    settings = settings.model_copy(update={"read_only": True})
    reader = await serve(RecServer(films.rec.data_dir, settings, executor=ScriptedExecutor()))
    assert await asked_over_http(reader) == await asked_over_http(films)


async def test_a_replaced_model_serves_the_new_version(films: Api) -> None:
    assert (await films.ok("GET", "/popular_items?model_id=films"))["model_version"] == 1
    await swap_films(films.rec)
    answer = await films.ok("GET", "/popular_items?model_id=films")
    assert (answer["model_version"], answer["items"][0]) == (2, {"item_id": "heat", "score": 1.0})
