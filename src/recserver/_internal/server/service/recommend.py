"""Operations that recommend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Unpack

from recserver._internal.core.clock import timestamp
from recserver._internal.core.errors import ItemNotFound
from recserver._internal.core.validation.values import EntityId, KnownId
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import (
    Answer,
    answer_warnings,
    recommend,
    recommend_many,
    recommend_popular,
    recommend_similar,
    scored_items,
)
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import (
    Interactions,
    ItemIds,
    Popularity,
    RankOptions,
    RequestOptions,
    SessionOptions,
    UserIds,
    UserOptions,
)
from recserver._internal.results.recommendations import (
    BatchRecommendations,
    RankedItems,
    Recommendations,
    SimilarItems,
    UserRecommendations,
)
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.services import Operations

MAX_BATCH_USERS = 64
"""Users that are scored together."""

MAX_BATCH_ITEMS = 10_000
"""Items of the responses that are computed together, and wait for the client to receive them."""


class RecommendOperations(Operations):
    """Recommend items.

    Each operation gets its model once, so that a version that is activated meanwhile does not affect the response.
    """

    tag = "Recommendations"

    def current_version(self, model_id: str) -> object | None:
        """The version of a model that is in memory and serving; every version is an object of its own."""
        return self._services.model_cache.get_loaded(model_id)

    @operation(
        "GET POST",
        "/{user_id}/{model_id}",
        "/{user_id}/{model_id}/{n}",
        scope="read",
        from_model=True,
        cacheable=True,
        example={"user_id": "ann", "model_id": "coffee", "n": 3},
    )
    async def recommend(
        self, user_id: EntityId, *, model_id: KnownId, **options: Unpack[UserOptions]
    ) -> UserRecommendations:
        """The best items for a user, best first.

        Args:
            user_id: a user of the training data gets personal recommendations. Another one whose ``interactions``
                are given is folded in. All others get popular items, or none if ``fallback`` is false.
            model_id: the model whose serving version answers.
            options: see :class:`~recserver._internal.recommend.request_options.UserOptions`.

        Returns:
            The items, and where they come from (``source``).

        Raises:
            InvalidInput: if an option is invalid, or an attribute is not known.
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model, query = await self._services.model_cache.get_or_load(model_id), Query.from_options(options)
        answer = await self._services.batcher.recommend(model, user_id, query)
        return UserRecommendations(
            model_id=model_id,
            user_id=user_id,
            predictions={user_id: scored_items(answer)},
            datetime=timestamp(self._services.clock.now()),
            status="completed",
            n_recommendations=len(answer.items),
            source=answer.source,
            model_version=model.model_version,
            warnings=answer_warnings(model, query),
        )

    @operation(
        "POST",
        scope="read",
        from_model=True,
        aliases={"item_ids": "interactions"},
        example={"interactions": ["latte", {"item_id": "espresso", "rating": 5}], "model_id": "coffee", "n": 3},
    )
    async def session_recommend(
        self, interactions: Interactions, *, model_id: KnownId, **options: Unpack[SessionOptions]
    ) -> Recommendations:
        """The best items for a user of whom only these interactions are known.

        Args:
            interactions: item ids, or objects with ``item_id`` and ``rating``.
            model_id: the model whose serving version answers.
            options: see :class:`~recserver._internal.recommend.request_options.SessionOptions`.

        Returns:
            The items; ``source`` is ``fold_in``, or for lack of usable interactions that of popular items.

        Raises:
            InvalidInput: if an option is invalid, or an attribute is not known.
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model = await self._services.model_cache.get_or_load(model_id)
        query = Query.from_options({**options, "interactions": interactions})
        answer = await self._services.batcher.recommend(model, None, query)
        return _recommendations(model_id, model, query, answer)

    @operation(
        "POST",
        scope="read",
        from_model=True,
        example={"item_ids": ["latte", "mocha"], "model_id": "coffee", "user_id": "ann"},
    )
    async def rank(
        self,
        item_ids: ItemIds,
        *,
        model_id: KnownId,
        user_id: EntityId | None = None,
        **options: Unpack[RankOptions],
    ) -> RankedItems:
        """The given items, best first for a user.

        Args:
            item_ids: up to 10,000. Ids that the model does not know are listed separately.
            model_id: the model whose serving version answers.
            user_id: without one, or for a cold-start user, items are ranked by popularity.
            options: see :class:`~recserver._internal.recommend.request_options.RankOptions`.

        Raises:
            InvalidInput: if an option is invalid, or an attribute is not known.
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model = await self._services.model_cache.get_or_load(model_id)
        query = Query.from_options(
            {"exclude_seen": False, **options, "candidates": item_ids, "n": max(1, len(item_ids))}
        )

        def compute() -> tuple[Answer, list[str]]:
            unknown = [item_id for item_id in item_ids if item_id not in model.items]
            return recommend(model, user_id, query), unknown

        answer, unknown = await self._services.batcher.run_query(model, query, compute)
        return RankedItems(
            model_id=model_id,
            user_id=user_id,
            unknown_item_ids=unknown,
            items=scored_items(answer),
            n_recommendations=len(answer.items),
            source=answer.source,
            model_version=model.model_version,
            warnings=answer_warnings(model, query),
        )

    @operation(
        "GET POST",
        scope="read",
        from_model=True,
        cacheable=True,
        example={"item_id": "latte", "model_id": "coffee", "n": 3},
    )
    async def similar_items(
        self, item_id: EntityId, *, model_id: KnownId, **options: Unpack[RequestOptions]
    ) -> SimilarItems:
        """The items that are most similar to an item.

        Args:
            item_id: an item of the training data.
            model_id: the model whose serving version answers.
            options: see :class:`~recserver._internal.recommend.request_options.RequestOptions`.

        Raises:
            InvalidInput: if an option is invalid, or an attribute is not known.
            ItemNotFound: if the model does not know the item.
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model, query = await self._services.model_cache.get_or_load(model_id), Query.from_options(options)
        item = model.items.find(item_id)
        if item is None:
            raise ItemNotFound(model_id, item_id)
        answer = await self._services.batcher.run_query(
            model, query, lambda: recommend_similar(model, item, query)
        )
        return SimilarItems(
            model_id=model_id,
            item_id=item_id,
            items=scored_items(answer),
            n_recommendations=len(answer.items),
            model_version=model.model_version,
        )

    @operation("GET POST", scope="read", from_model=True, cacheable=True, example={"model_id": "coffee", "n": 3})
    async def popular_items(
        self, *, model_id: KnownId, popularity: Popularity = "overall", **options: Unpack[RequestOptions]
    ) -> Recommendations:
        """The items that most users interacted with.

        Args:
            model_id: the model whose serving version answers.
            popularity: ``overall``, or ``recent``: recent interactions count more.
            options: see :class:`~recserver._internal.recommend.request_options.RequestOptions`.

        Raises:
            InvalidInput: if an option is invalid, or an attribute is not known.
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model, query = await self._services.model_cache.get_or_load(model_id), Query.from_options(options)
        answer = await self._services.batcher.run_query(
            model, query, lambda: recommend_popular(model, query, popularity)
        )
        return _recommendations(model_id, model, query, answer)

    @operation(
        "POST",
        scope="read",
        from_model=True,
        example={"user_ids": ["ann", "bob"], "model_id": "coffee", "n": 3},
    )
    async def recommend_batch(
        self, user_ids: UserIds, *, model_id: KnownId, **options: Unpack[UserOptions]
    ) -> AsyncGenerator[BatchRecommendations, None]:
        """The best items for many users, all from one version.

        Args:
            user_ids: up to 10,000.
            model_id: the model whose serving version answers.
            options: see :class:`~recserver._internal.recommend.request_options.UserOptions`.

        Returns:
            An asynchronous generator of one result for each user, in the order of the ids.

        Raises:
            InvalidInput: if an option is invalid, or an attribute is not known.
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model, query = await self._services.model_cache.get_or_load(model_id), Query.from_options(options)
        run_in_thread = self._services.batcher.run_in_thread
        prepared = await run_in_thread(PreparedQuery.for_model, model, query)
        size = max(1, min(MAX_BATCH_USERS, MAX_BATCH_ITEMS // query.n))

        async def results() -> AsyncGenerator[BatchRecommendations, None]:
            for start in range(0, len(user_ids), size):
                for result in await run_in_thread(_batch, model, user_ids[start : start + size], prepared):
                    yield result

        return results()


def _recommendations(model_id: str, model: Recommender, query: Query, answer: Answer) -> Recommendations:
    return Recommendations(
        model_id=model_id,
        items=scored_items(answer),
        n_recommendations=len(answer.items),
        source=answer.source,
        model_version=model.model_version,
        warnings=answer_warnings(model, query),
    )


def _batch(model: Recommender, user_ids: Sequence[str], prepared: PreparedQuery) -> list[BatchRecommendations]:
    warnings = answer_warnings(model, prepared.query)
    return [
        BatchRecommendations(
            user_id=user_id,
            items=scored_items(answer),
            n_recommendations=len(answer.items),
            source=answer.source,
            model_version=model.model_version,
            warnings=warnings,
        )
        for user_id, answer in zip(user_ids, recommend_many(model, user_ids, prepared), strict=True)
    ]
