"""Verbs that show whom and what a model knows."""

from __future__ import annotations

from typing import Any

import numpy as np

from recserver.algorithms.top_n import top_n
from recserver.core.errors import UserNotFound
from recserver.core.validation.values import Count, EntityId, KnownId
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.request_options import IdPrefix, Offset
from recserver.recommend.similarity import user_similarities
from recserver.server.service.operation import Operations, Result, operation


class LookupOperations(Operations):
    """Look things up."""

    @operation
    async def users(
        self, *, model_id: KnownId, prefix: IdPrefix = "", after: IdPrefix = "", limit: Count = 100
    ) -> Result:
        """A page of the users that a model was trained on, in the order of their ids.

        Args:
            prefix: what the ids begin with.
            after: the last id of the page before, which its ``next`` tells.
        """
        model = await self.services.model_cache.get_or_load(model_id)
        page = model.users.page(limit + 1, prefix, after)
        counts = np.diff(model.seen_indptr[page.start : page.stop + 1]).tolist()
        found = [
            {"user_id": model.users[place], "interactions": count}
            for place, count in zip(page, counts, strict=True)
        ]
        return {"data": found[:limit], **_next_page(found, limit, "user_id"), **_model_fields(model_id, model)}

    @operation
    async def items(
        self, *, model_id: KnownId, prefix: IdPrefix = "", after: IdPrefix = "", limit: Count = 100
    ) -> Result:
        """A page of the items that a model was trained on, with what is known of each.

        Args:
            prefix: what the ids begin with.
            after: the last id of the page before, which its ``next`` tells.
        """
        model = await self.services.model_cache.get_or_load(model_id)
        page = model.items.page(limit + 1, prefix, after)
        if model.attributes is None:
            found = [_item(model, place) for place in page]
        else:  # which are arranged by item when they are first asked for
            found = await self.services.batcher.run_in_thread(lambda: [_item(model, place) for place in page])
        return {"data": found[:limit], **_next_page(found, limit, "item_id"), **_model_fields(model_id, model)}

    @operation
    async def similar_users(
        self, user_id: EntityId, *, model_id: KnownId, n: Count = 10, offset: Offset = 0
    ) -> Result:
        """The users who are most like one, from 1 for the same taste down."""
        model = await self.services.model_cache.get_or_load(model_id)
        user = model.users.find(user_id)
        if user is None:
            raise UserNotFound(model_id, user_id)
        found = await self.services.batcher.run_in_thread(_similar_users, model, user, n, offset)
        return {"user_id": user_id, "users": found, **_model_fields(model_id, model)}


def _item(model: Recommender, place: int) -> dict[str, Any]:
    attributes = {} if model.attributes is None else model.attributes.item_values(place)
    return {
        "item_id": model.items[place],
        "interactions": int(model.item_counts[place]),
        "attributes": attributes,
    }


def _next_page(found: list[dict[str, Any]], limit: int, name: str) -> dict[str, Any]:
    """Where the next page begins; null after the last one."""
    return {"next": found[limit - 1][name] if len(found) > limit else None}


def _similar_users(model: Recommender, user: int, n: int, offset: int) -> list[dict[str, Any]]:
    scores = user_similarities(model, user)
    scores[user] = -np.inf
    places = top_n(scores, min(offset + n, len(scores)))[offset:]
    return [
        {"user_id": model.users[place], "score": score}
        for place, score in zip(places.tolist(), scores[places].tolist(), strict=True)
    ]


def _model_fields(model_id: str, model: Recommender) -> dict[str, Any]:
    return {
        "model_id": model_id,
        "model_version": model.model_version,
        "n_users": len(model.users),
        "n_items": len(model.items),
    }
