"""Mixes of requests to ``/recommend`` with all of its options, and what the answer to each is by itself."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientSession
from pydantic import TypeAdapter

from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend, scored_items
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import UserOptions
from recserver._internal.results.base import plain
from tests.helpers.film_models import ODD, USERS

OPTIONS: dict[str, list[Any]] = {
    "n": [1, 2, 3, 10, 1000],
    "offset": [0, 1, 4, 50],
    "exclude_seen": [True, False],
    "exclude": [[], ["jaws"], ["heat", "big", "unknown"], [ODD]],
    "candidates": [[], ["unknown"], ["clue"], ["alien", "them", "big", "heat"]],
    "filter": [[], ["genre=Comedy"], ["price<10"], ["price<10", "genre=Horror"], ["genre=none"]],
    "boost": [[], ["genre=Drama*3"], ["genre=Comedy*0.1", "price>9*2"]],
    "max_per": [[], ["genre:1"]],
    "diversity": [0, 0.5, 1],
    "interactions": [[], ["alien"], ["clue", {"item_id": "big", "rating": 2.5}], ["unknown"]],
    "explain": [True, False],
    "fallback": [True, False],
    "popularity": ["overall", "recent"],
}
"""Some values of every request option, empty lists among them."""

ASKING = [*USERS, "a cold-start user"]
PARSED: TypeAdapter[UserOptions] = TypeAdapter(UserOptions)

Options = dict[str, Any]
Request = tuple[str, Options]


def mixed(seed: int, count: int) -> list[Request]:
    """Requests with options or without; many are plain, or have empty lists, and so cost the same to answer."""
    some = random.Random(seed)

    def options() -> Options:
        names = some.sample(list(OPTIONS), some.choice([1, 1, 3]))
        drawn: Options = {name: some.choice(OPTIONS[name]) for name in names}
        return some.choice([{}, {"candidates": []}, {"exclude": []}, drawn, drawn])

    return [(some.choice(ASKING), options()) for _ in range(count)]


def alone(model: Recommender, user: str | None, options: Options) -> tuple[Any, list[dict[str, Any]]]:
    """Source and items of the answer to one request, computed by itself."""
    answer = recommend(model, user, Query.from_options(PARSED.validate_python(options)))
    return answer.source and answer.source.value, plain(scored_items(answer))


def reported(answer: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    items = answer["predictions"][answer["user_id"]] if "predictions" in answer else answer["items"]
    return answer["source"], items


async def asked_over_http(client: ClientSession, model: Recommender, seed: int) -> None:
    """Ask by GET, POST and batch at once; every answer must be what it is alone."""
    asked = mixed(seed, 60)

    async def post(user: str, options: Options) -> Any:
        async with client.post("/recommend", json={"user_id": user, "model_id": "films", **options}) as response:
            return reported(await response.json())

    async def get(user: str, options: Options) -> Any:
        async with client.get(f"/recommend?{in_query(user, options)}") as response:
            return reported(await response.json())

    async def batch(options: Options) -> Any:
        async with client.post(
            "/recommend_batch", json={"user_ids": ASKING, "model_id": "films", **options}
        ) as response:
            return [reported(json.loads(line)) for line in (await response.read()).splitlines()]

    expressible = [one for one in asked if [] not in one[1].values()]  # an address has no empty lists
    posts, gets, batches = await asyncio.gather(
        asyncio.gather(*(post(*one) for one in asked)),
        asyncio.gather(*(get(*one) for one in expressible)),
        asyncio.gather(*(batch(options) for _, options in asked[:8])),
    )
    assert posts == [alone(model, *one) for one in asked]
    assert gets == [alone(model, *one) for one in expressible]
    assert batches == [[alone(model, user, options) for user in ASKING] for _, options in asked[:8]]


def in_query(user: str, options: Options) -> str:
    def text(value: Any) -> str:
        return json.dumps(value) if isinstance(value, bool) else str(value)

    fields: dict[str, Any] = {"user_id": user, "model_id": "films"}
    for name, value in options.items():
        if isinstance(value, list):
            fields[name] = [one["item_id"] if isinstance(one, dict) else one for one in value]
        else:
            fields[name] = text(value)
    return urlencode(fields, doseq=True)
