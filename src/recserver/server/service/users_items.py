"""Operations that list the users and items of a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from recserver.algorithms.top_n import top_n
from recserver.core.errors import UserNotFound
from recserver.core.validation.values import Count, EntityId, KnownId
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.request_options import IdPrefix, Offset
from recserver.recommend.similarity import user_similarities
from recserver.server.service.operation_decorators import Operations, Result, operation


class LookupOperations(Operations):
    """List users and items, and find similar users."""

    @operation
    async def users(
        self, *, model_id: KnownId, prefix: IdPrefix = "", after: IdPrefix = "", limit: Count = 100
    ) -> Result:
        """A page of the users that a model was trained on, in the order of their ids.

        Args:
            prefix: prefix of the ids.
            after: the ``next`` of the previous page: its last id.
        """
        model = await self.services.model_cache.get_or_load(model_id)
        page = model.users.page(limit + 1, prefix, after)
        counts = np.diff(model.seen_indptr[page.start : page.stop + 1]).tolist()
        rows = [
            {"user_id": model.users[user], "interactions": count} for user, count in zip(page, counts, strict=True)
        ]
        return _page(rows, limit, "user_id") | _model_fields(model_id, model)

    @operation
    async def items(
        self, *, model_id: KnownId, prefix: IdPrefix = "", after: IdPrefix = "", limit: Count = 100
    ) -> Result:
        """A page of the items that a model was trained on, in the order of their ids, with their attributes.

        Args:
            prefix: prefix of the ids.
            after: the ``next`` of the previous page: its last id.
        """
        model = await self.services.model_cache.get_or_load(model_id)
        page = model.items.page(limit + 1, prefix, after)

        def read() -> list[dict[str, Any]]:
            return [_item(model, item) for item in page]

        # Attributes are grouped by item on first use, which may take long.
        rows = read() if model.attributes is None else await self.services.batcher.run_in_thread(read)
        return _page(rows, limit, "item_id") | _model_fields(model_id, model)

    @operation
    async def similar_users(
        self, user_id: EntityId, *, model_id: KnownId, n: Count = 10, offset: Offset = 0
    ) -> Result:
        """The users who are most similar to a user. A score of 1 is the same taste."""
        model = await self.services.model_cache.get_or_load(model_id)
        user = model.users.find(user_id)
        if user is None:
            raise UserNotFound(model_id, user_id)
        similar = await self.services.batcher.run_in_thread(_similar_users, model, user, n, offset)
        return {"user_id": user_id, "users": similar, **_model_fields(model_id, model)}


def _item(model: Recommender, item: int) -> dict[str, Any]:
    return {
        "item_id": model.items[item],
        "interactions": int(model.item_counts[item]),
        "attributes": {} if model.attributes is None else model.attributes.item_values(item),
    }


def _page(rows: list[dict[str, Any]], limit: int, id_field: str) -> dict[str, Any]:
    """The first ``limit`` of ``rows``, and the last id among them if there are more rows."""
    return {"data": rows[:limit], "next": rows[limit - 1][id_field] if len(rows) > limit else None}


def _similar_users(model: Recommender, user: int, n: int, offset: int) -> list[dict[str, Any]]:
    scores = user_similarities(model, user)
    scores[user] = -np.inf
    users = top_n(scores, min(offset + n, len(scores)))[offset:]
    return [
        {"user_id": model.users[other], "score": score}
        for other, score in zip(users.tolist(), scores[users].tolist(), strict=True)
    ]


def _model_fields(model_id: str, model: Recommender) -> dict[str, Any]:
    return {
        "model_id": model_id,
        "model_version": model.model_version,
        "n_users": len(model.users),
        "n_items": len(model.items),
    }
