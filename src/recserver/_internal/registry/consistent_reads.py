"""Consistent reads of models and of what else describes them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from recserver._internal.core.errors import ModelNotFound
from recserver._internal.registry.model_locks import Moment
from recserver._internal.registry.model_store import ModelStore, StoredModel

T = TypeVar("T")

ReadMore = Callable[[StoredModel], Awaitable[T]]
"""Reads more about a model. It is called again if the model changes meanwhile."""


async def read_consistently(models: ModelStore, model_id: str, read_more: ReadMore[T]) -> tuple[StoredModel, T]:
    """One model and the result of ``look``, both as they are when this returns.

    The model in memory agrees with them too, until the caller awaits anything.

    Raises:
        ModelNotFound: if there is no such model.
    """
    while True:
        model, moment = await models.read_at(model_id)
        more = await read_more(model)
        if not models.locks.changed_since(model_id, moment):
            return model, more


async def read_all_consistently(models: ModelStore, read_more: ReadMore[T]) -> list[tuple[StoredModel, T]]:
    """All models and the results of ``look``, each as :func:`read_consistently` returns it."""
    moment = models.locks.moment()
    ids, results = await models.ids(), dict[str, tuple[StoredModel, T]]()
    for model in await models.read_all(ids):
        results[model.model_id] = model, await read_more(model)
    moments: dict[str, Moment] = dict.fromkeys(ids, moment)
    while changed := [one for one in ids if models.locks.changed_since(one, moments[one])]:
        for model_id in changed:
            results.pop(model_id, None)
            moments[model_id] = models.locks.moment()
            with contextlib.suppress(ModelNotFound):
                model, moments[model_id] = await models.read_at(model_id)
                results[model_id] = model, await read_more(model)
    return [results[one] for one in ids if one in results]
