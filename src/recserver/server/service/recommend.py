"""The verbs that all others are for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Unpack

from recserver.core.clock import timestamp
from recserver.core.errors import ItemNotFound
from recserver.core.validation.values import EntityId, KnownId
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.pipeline import Answer, items_of, like_item, popular, recommend, recommended_many
from recserver.recommend.prepared_query import Prepared
from recserver.recommend.query import Query
from recserver.recommend.request_options import (
    Interactions,
    ItemIds,
    PersonalWishes,
    Popularity,
    RankWishes,
    SessionWishes,
    UserIds,
    Wishes,
)
from recserver.server.service.operation import Result, Verbs, verb

BATCH = 64
"""Users that are answered together."""

MOST_ITEMS = 10_000
"""Items of the answers that are found together, and wait for the client to take them."""


class RecommendVerbs(Verbs):
    """Answer."""

    def serving(self, model_id: str) -> object | None:
        """The version of a model that answers from memory just now: another version is another object."""
        return self.parts.catalog.in_memory(model_id)

    @verb
    async def recommend(self, user_id: EntityId, *, model_id: KnownId, **wishes: Unpack[PersonalWishes]) -> Result:
        """The best items of a model for a user, best first.

        ``source`` is ``personal`` for a user who was in the training, ``fold_in`` for another who is answered from
        ``interactions``; anybody else gets what is popular, or nothing if ``fallback`` is off.
        """
        # The version is taken once: a model that is swapped meanwhile does not mix into this answer.
        model, query = await self.parts.catalog.find(model_id), Query.of(wishes)
        answer = await self.parts.together.recommend(model, user_id, query)
        items = items_of(answer)
        return {
            "model_id": model_id,
            "user_id": user_id,
            "predictions": {user_id: items},
            "datetime": timestamp(self.parts.clock.now()),
            "status": "completed",
            **_ending(model, query, answer),
        }

    @verb
    async def session_recommend(
        self, interactions: Interactions, *, model_id: KnownId, **wishes: Unpack[SessionWishes]
    ) -> Result:
        """The best items for somebody of whom nothing is known but these interactions."""
        model, query = await self.parts.catalog.find(model_id), Query.of({**wishes, "interactions": interactions})
        answer = await self.parts.together.recommend(model, None, query)
        return {"model_id": model_id, "items": items_of(answer), **_ending(model, query, answer)}

    @verb
    async def rank(
        self,
        item_ids: ItemIds,
        *,
        model_id: KnownId,
        user_id: EntityId | None = None,
        **wishes: Unpack[RankWishes],
    ) -> Result:
        """These items in the order in which they suit somebody; those that nobody knows apart."""
        model = await self.parts.catalog.find(model_id)
        given = {"exclude_seen": False, **wishes, "candidates": item_ids, "n": max(1, len(item_ids))}
        query = Query.of(given)

        def look() -> tuple[Answer, list[str]]:
            return recommend(model, user_id, query), [one for one in item_ids if one not in model.items]

        answer, unknown = await self.parts.together.looked(model, query, look)
        return {
            "model_id": model_id,
            "user_id": user_id,
            "items": items_of(answer),
            "unknown_item_ids": unknown,
            **_ending(model, query, answer),
        }

    @verb
    async def similar_items(self, item_id: EntityId, *, model_id: KnownId, **wishes: Unpack[Wishes]) -> Result:
        """The items that are most like one."""
        model, query = await self.parts.catalog.find(model_id), Query.of(wishes)
        item = model.items.find(item_id)
        if item is None:
            raise ItemNotFound(model_id, item_id)
        answer = await self.parts.together.looked(model, query, lambda: like_item(model, item, query))
        return {
            "model_id": model_id,
            "item_id": item_id,
            "items": items_of(answer),
            "n_recommendations": len(answer.items),
            "model_version": model.model_version,
        }

    @verb
    async def popular_items(
        self, *, model_id: KnownId, popularity: Popularity = "overall", **wishes: Unpack[Wishes]
    ) -> Result:
        """The items that most users interacted with, or most of late."""
        model, query = await self.parts.catalog.find(model_id), Query.of(wishes)
        answer = await self.parts.together.looked(model, query, lambda: popular(model, query, popularity))
        return {"model_id": model_id, "items": items_of(answer), **_ending(model, query, answer)}

    @verb
    async def recommend_batch(
        self, user_ids: UserIds, *, model_id: KnownId, **wishes: Unpack[PersonalWishes]
    ) -> AsyncGenerator[Result, None]:
        """The best items for many users, one result each, in their order."""
        model, query = await self.parts.catalog.find(model_id), Query.of(wishes)
        beside = self.parts.together.beside
        asked = await beside(Prepared.of, model, query)  # what cannot be done is refused before the first line
        together = max(1, min(BATCH, MOST_ITEMS // query.n))

        async def results() -> AsyncGenerator[Result, None]:
            for start in range(0, len(user_ids), together):
                for result in await beside(_batch, model, user_ids[start : start + together], asked):
                    yield result

        return results()


def _batch(model: Recommender, user_ids: Sequence[str], asked: Prepared) -> list[Result]:
    return [
        {"user_id": user_id, "items": items_of(answer), **_ending(model, asked.query, answer)}
        for user_id, answer in zip(user_ids, recommended_many(model, user_ids, asked), strict=True)
    ]


def _ending(model: Recommender, query: Query, answer: Answer) -> dict[str, Any]:
    """What every answer ends with."""
    source = answer.source and answer.source.value
    ending: dict[str, Any] = {
        "n_recommendations": len(answer.items),
        "source": source,
        "model_version": model.model_version,
    }
    if query.interactions and model.fold_in is None:
        ending["warnings"] = [
            "This version cannot learn from interactions that are sent along; they are only left out of the "
            "answer: train the model again, with an algorithm that folds users in."
        ]
    return ending
