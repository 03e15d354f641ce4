"""Consistent reads of models and of what else describes them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from recserver.core.errors import ModelNotFound
from recserver.registry.model_locks import Moment
from recserver.registry.model_store import ModelStore, StoredModel

T = TypeVar("T")

Look = Callable[[StoredModel], Awaitable[T]]
"""Reads more about a model. It is called again if the model changes meanwhile."""


async def read_consistently(models: ModelStore, model_id: str, look: Look[T]) -> tuple[StoredModel, T]:
    """One model and the result of ``look``, both as they are when this returns.

    The model in memory agrees with them too, until the caller awaits anything.

    Raises:
        ModelNotFound: if there is no such model.
    """
    while True:
        model, moment = await models.read_at(model_id)
        found = await look(model)
        if not models.locks.changed_since(model_id, moment):
            return model, found


async def read_all_consistently(models: ModelStore, look: Look[T]) -> list[tuple[StoredModel, T]]:
    """All models and the results of ``look``, each as :func:`read_consistently` returns it."""
    moment = models.locks.moment()
    ids, known = await models.ids(), dict[str, tuple[StoredModel, T]]()
    for model in await models.read_all(ids):
        known[model.model_id] = model, await look(model)
    moments: dict[str, Moment] = dict.fromkeys(ids, moment)
    while changed := [one for one in ids if models.locks.changed_since(one, moments[one])]:
        for model_id in changed:
            known.pop(model_id, None)
            moments[model_id] = models.locks.moment()
            with contextlib.suppress(ModelNotFound):
                model, moments[model_id] = await models.read_at(model_id)
                known[model_id] = model, await look(model)
    return [known[one] for one in ids if one in known]
