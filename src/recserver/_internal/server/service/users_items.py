"""Operations that list the users and items of a model."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from recserver._internal.algorithms.top_n import top_n
from recserver._internal.core.errors import UserNotFound
from recserver._internal.core.validation.values import Count, EntityId, KnownId
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.request_options import IdPrefix, Offset
from recserver._internal.recommend.similarity import user_similarities
from recserver._internal.results.recommendations import (
    ItemPage,
    KnownItem,
    KnownUser,
    SimilarUser,
    SimilarUsers,
    UserPage,
)
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.services import Operations


class LookupOperations(Operations):
    """List users and items, and find similar users."""

    tag = "Users and items"

    @operation("GET", scope="read", from_model=True, example={"model_id": "coffee", "limit": 2})
    async def users(
        self, *, model_id: KnownId, prefix: IdPrefix = "", after: IdPrefix = "", limit: Count = 100
    ) -> UserPage:
        """A page of the users that a model was trained on, in the order of their ids.

        Args:
            model_id: the model whose serving version answers.
            prefix: only users whose ids begin with it.
            after: the ``next`` of the previous page: its last id.
            limit: maximum number of users.

        Raises:
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model = await self._services.model_cache.get_or_load(model_id)
        page = model.users.page(limit + 1, prefix, after)
        counts = np.diff(model.seen_indptr[page.start : page.stop + 1]).tolist()
        rows = [
            KnownUser(user_id=model.users[user], interactions=count)
            for user, count in zip(page, counts, strict=True)
        ]
        return UserPage(
            data=rows[:limit],
            next=rows[limit - 1].user_id if len(rows) > limit else None,
            **_model_fields(model_id, model),
        )

    @operation("GET", scope="read", from_model=True, example={"model_id": "coffee", "limit": 2})
    async def items(
        self, *, model_id: KnownId, prefix: IdPrefix = "", after: IdPrefix = "", limit: Count = 100
    ) -> ItemPage:
        """A page of the items that a model was trained on, in the order of their ids, with their attributes.

        Args:
            model_id: the model whose serving version answers.
            prefix: only items whose ids begin with it.
            after: the ``next`` of the previous page: its last id.
            limit: maximum number of items.

        Raises:
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model = await self._services.model_cache.get_or_load(model_id)
        page = model.items.page(limit + 1, prefix, after)

        def read() -> list[KnownItem]:
            return [_item(model, item) for item in page]

        # Attributes are grouped by item on first use, which may take long.
        rows = read() if model.attributes is None else await self._services.batcher.run_in_thread(read)
        return ItemPage(
            data=rows[:limit],
            next=rows[limit - 1].item_id if len(rows) > limit else None,
            **_model_fields(model_id, model),
        )

    @operation(
        "GET",
        scope="read",
        from_model=True,
        cacheable=True,
        example={"user_id": "ann", "model_id": "coffee", "n": 2},
    )
    async def similar_users(
        self, user_id: EntityId, *, model_id: KnownId, n: Count = 10, offset: Offset = 0
    ) -> SimilarUsers:
        """The users who are most similar to a user.

        Args:
            user_id: a user of the training data.
            model_id: the model whose serving version answers.
            n: maximum number of users.
            offset: how many of the most similar users to skip.

        Raises:
            UserNotFound: if the model does not know the user.
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve.
        """
        model = await self._services.model_cache.get_or_load(model_id)
        user = model.users.find(user_id)
        if user is None:
            raise UserNotFound(model_id, user_id)
        similar = await self._services.batcher.run_in_thread(_similar_users, model, user, n, offset)
        return SimilarUsers(user_id=user_id, users=similar, **_model_fields(model_id, model))


def _item(model: Recommender, item: int) -> KnownItem:
    return KnownItem(
        item_id=model.items[item],
        interactions=int(model.item_counts[item]),
        attributes={} if model.attributes is None else model.attributes.item_values(item),
    )


def _similar_users(model: Recommender, user: int, n: int, offset: int) -> list[SimilarUser]:
    scores = user_similarities(model, user)
    scores[user] = -np.inf
    users = top_n(scores, min(offset + n, len(scores)))[offset:]
    return [
        SimilarUser(user_id=model.users[other], score=score)
        for other, score in zip(users.tolist(), scores[users].tolist(), strict=True)
    ]


class _ModelFields(TypedDict):
    model_id: str
    model_version: int
    n_users: int
    n_items: int


def _model_fields(model_id: str, model: Recommender) -> _ModelFields:
    return {
        "model_id": model_id,
        "model_version": model.model_version,
        "n_users": len(model.users),
        "n_items": len(model.items),
    }
