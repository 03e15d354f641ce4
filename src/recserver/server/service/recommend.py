"""The verbs that all others are for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Unpack

from recserver.core.clock import timestamp
from recserver.core.errors import ItemNotFound
from recserver.core.validation.values import EntityId, KnownId
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.pipeline import (
    Recommendations,
    answer_to_json,
    items_to_json,
    recommend,
    recommend_many,
    recommend_popular,
    recommend_similar,
)
from recserver.recommend.prepared_query import PreparedQuery
from recserver.recommend.query import Query
from recserver.recommend.request_options import (
    Interactions,
    ItemIds,
    Popularity,
    RankOptions,
    RequestOptions,
    SessionOptions,
    UserIds,
    UserOptions,
)
from recserver.server.service.operation import Operations, Result, operation

MAX_BATCH_USERS = 64
"""Users that are answered together."""

MAX_BATCH_ITEMS = 10_000
"""Items of the answers that are found together, and wait for the client to take them."""


class RecommendOperations(Operations):
    """Answer."""

    def current_version(self, model_id: str) -> object | None:
        """The version of a model that answers from memory just now: another version is another object."""
        return self.services.model_cache.get_loaded(model_id)

    @operation
    async def recommend(self, user_id: EntityId, *, model_id: KnownId, **wishes: Unpack[UserOptions]) -> Result:
        """The best items of a model for a user, best first.

        ``source`` is ``personal`` for a user who was in the training, ``fold_in`` for another who is answered from
        ``interactions``; anybody else gets what is popular, or nothing if ``fallback`` is off.
        """
        # The version is taken once: a model that is swapped meanwhile does not mix into this answer.
        model, query = await self.services.model_cache.get_or_load(model_id), Query.from_options(wishes)
        answer = await self.services.batcher.recommend(model, user_id, query)
        response = answer_to_json(model, query, answer)
        return {
            "model_id": model_id,
            "user_id": user_id,
            "predictions": {user_id: response.pop("items")},
            "datetime": timestamp(self.services.clock.now()),
            "status": "completed",
            **response,
        }

    @operation
    async def session_recommend(
        self, interactions: Interactions, *, model_id: KnownId, **wishes: Unpack[SessionOptions]
    ) -> Result:
        """The best items for somebody of whom nothing is known but these interactions."""
        model, query = (
            await self.services.model_cache.get_or_load(model_id),
            Query.from_options({**wishes, "interactions": interactions}),
        )
        answer = await self.services.batcher.recommend(model, None, query)
        return {"model_id": model_id, **answer_to_json(model, query, answer)}

    @operation
    async def rank(
        self,
        item_ids: ItemIds,
        *,
        model_id: KnownId,
        user_id: EntityId | None = None,
        **wishes: Unpack[RankOptions],
    ) -> Result:
        """These items in the order in which they suit somebody; those that nobody knows apart."""
        model = await self.services.model_cache.get_or_load(model_id)
        given = {"exclude_seen": False, **wishes, "candidates": item_ids, "n": max(1, len(item_ids))}
        query = Query.from_options(given)

        def look() -> tuple[Recommendations, list[str]]:
            return recommend(model, user_id, query), [one for one in item_ids if one not in model.items]

        answer, unknown = await self.services.batcher.run_query(model, query, look)
        return {
            "model_id": model_id,
            "user_id": user_id,
            "unknown_item_ids": unknown,
            **answer_to_json(model, query, answer),
        }

    @operation
    async def similar_items(
        self, item_id: EntityId, *, model_id: KnownId, **wishes: Unpack[RequestOptions]
    ) -> Result:
        """The items that are most like one."""
        model, query = await self.services.model_cache.get_or_load(model_id), Query.from_options(wishes)
        item = model.items.find(item_id)
        if item is None:
            raise ItemNotFound(model_id, item_id)
        answer = await self.services.batcher.run_query(model, query, lambda: recommend_similar(model, item, query))
        return {
            "model_id": model_id,
            "item_id": item_id,
            "items": items_to_json(answer),
            "n_recommendations": len(answer.items),
            "model_version": model.model_version,
        }

    @operation
    async def popular_items(
        self, *, model_id: KnownId, popularity: Popularity = "overall", **wishes: Unpack[RequestOptions]
    ) -> Result:
        """The items that most users interacted with, or most of late."""
        model, query = await self.services.model_cache.get_or_load(model_id), Query.from_options(wishes)
        answer = await self.services.batcher.run_query(
            model, query, lambda: recommend_popular(model, query, popularity)
        )
        return {"model_id": model_id, **answer_to_json(model, query, answer)}

    @operation
    async def recommend_batch(
        self, user_ids: UserIds, *, model_id: KnownId, **wishes: Unpack[UserOptions]
    ) -> AsyncGenerator[Result, None]:
        """The best items for many users, one result each, in their order."""
        model, query = await self.services.model_cache.get_or_load(model_id), Query.from_options(wishes)
        beside = self.services.batcher.run_in_thread
        asked = await beside(
            PreparedQuery.for_model, model, query
        )  # what cannot be done is refused before the first line
        together = max(1, min(MAX_BATCH_USERS, MAX_BATCH_ITEMS // query.n))

        async def results() -> AsyncGenerator[Result, None]:
            for start in range(0, len(user_ids), together):
                for result in await beside(_batch, model, user_ids[start : start + together], asked):
                    yield result

        return results()


def _batch(model: Recommender, user_ids: Sequence[str], prepared: PreparedQuery) -> list[Result]:
    return [
        {"user_id": user_id, **answer_to_json(model, prepared.query, answer)}
        for user_id, answer in zip(user_ids, recommend_many(model, user_ids, prepared), strict=True)
    ]
