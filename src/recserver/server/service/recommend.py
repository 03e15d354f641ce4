"""Operations that recommend."""

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
from recserver.server.service.operation_decorators import Operations, Result, operation

MAX_BATCH_USERS = 64
"""Users that are scored together."""

MAX_BATCH_ITEMS = 10_000
"""Items of the responses that are computed together, and wait for the client to receive them."""


class RecommendOperations(Operations):
    """Recommend items.

    Each operation gets its model once, so that a version that is activated meanwhile does not affect the response.
    """

    def current_version(self, model_id: str) -> object | None:
        """The version of a model that is in memory and serving; every version is an object of its own."""
        return self.services.model_cache.get_loaded(model_id)

    @operation
    async def recommend(self, user_id: EntityId, *, model_id: KnownId, **options: Unpack[UserOptions]) -> Result:
        """The best items for a user, best first.

        ``source`` is ``personal`` for a user of the training data and ``fold_in`` for another one whose
        ``interactions`` are given. All others get popular items, or none if ``fallback`` is false.
        """
        model, query = await self.services.model_cache.get_or_load(model_id), Query.from_options(options)
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
        self, interactions: Interactions, *, model_id: KnownId, **options: Unpack[SessionOptions]
    ) -> Result:
        """The best items for a user of whom only these interactions are known."""
        model = await self.services.model_cache.get_or_load(model_id)
        query = Query.from_options({**options, "interactions": interactions})
        answer = await self.services.batcher.recommend(model, None, query)
        return {"model_id": model_id, **answer_to_json(model, query, answer)}

    @operation
    async def rank(
        self,
        item_ids: ItemIds,
        *,
        model_id: KnownId,
        user_id: EntityId | None = None,
        **options: Unpack[RankOptions],
    ) -> Result:
        """The given items, best first for a user; ids that the model does not know are listed separately."""
        model = await self.services.model_cache.get_or_load(model_id)
        query = Query.from_options(
            {"exclude_seen": False, **options, "candidates": item_ids, "n": max(1, len(item_ids))}
        )

        def compute() -> tuple[Recommendations, list[str]]:
            unknown = [item_id for item_id in item_ids if item_id not in model.items]
            return recommend(model, user_id, query), unknown

        answer, unknown = await self.services.batcher.run_query(model, query, compute)
        return {
            "model_id": model_id,
            "user_id": user_id,
            "unknown_item_ids": unknown,
            **answer_to_json(model, query, answer),
        }

    @operation
    async def similar_items(
        self, item_id: EntityId, *, model_id: KnownId, **options: Unpack[RequestOptions]
    ) -> Result:
        """The items that are most similar to an item."""
        model, query = await self.services.model_cache.get_or_load(model_id), Query.from_options(options)
        item = model.items.find(item_id)
        if item is None:
            raise ItemNotFound(model_id, item_id)
        answer = await self.services.batcher.run_query(model, query, lambda: recommend_similar(model, item, query))
        response = answer_to_json(model, query, answer)
        del response["source"]
        return {"model_id": model_id, "item_id": item_id, **response}

    @operation
    async def popular_items(
        self, *, model_id: KnownId, popularity: Popularity = "overall", **options: Unpack[RequestOptions]
    ) -> Result:
        """The items that most users interacted with, overall or recently."""
        model, query = await self.services.model_cache.get_or_load(model_id), Query.from_options(options)
        answer = await self.services.batcher.run_query(
            model, query, lambda: recommend_popular(model, query, popularity)
        )
        return {"model_id": model_id, **answer_to_json(model, query, answer)}

    @operation
    async def recommend_batch(
        self, user_ids: UserIds, *, model_id: KnownId, **options: Unpack[UserOptions]
    ) -> AsyncGenerator[Result, None]:
        """The best items for many users: one result for each, in the order of the ids.

        Errors are raised before the first result.
        """
        model, query = await self.services.model_cache.get_or_load(model_id), Query.from_options(options)
        run_in_thread = self.services.batcher.run_in_thread
        prepared = await run_in_thread(PreparedQuery.for_model, model, query)
        size = max(1, min(MAX_BATCH_USERS, MAX_BATCH_ITEMS // query.n))

        async def results() -> AsyncGenerator[Result, None]:
            for start in range(0, len(user_ids), size):
                for result in await run_in_thread(_batch, model, user_ids[start : start + size], prepared):
                    yield result

        return results()


def _batch(model: Recommender, user_ids: Sequence[str], prepared: PreparedQuery) -> list[Result]:
    return [
        {"user_id": user_id, **answer_to_json(model, prepared.query, answer)}
        for user_id, answer in zip(user_ids, recommend_many(model, user_ids, prepared), strict=True)
    ]
