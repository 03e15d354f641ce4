"""The verb that all others are for."""

from __future__ import annotations

from recserver.clock import timestamp
from recserver.service.verb import Result, Verbs, verb
from recserver.specs.values import Count, EntityId, KnownId, Switch


class RecommendVerbs(Verbs):
    """Answer."""

    @verb
    async def recommend(
        self,
        user_id: EntityId,
        *,
        model_id: KnownId,
        n: Count = 10,
        exclude_seen: Switch = True,
        fallback: Switch = True,
    ) -> Result:
        """The ``n`` best items of a model for a user, best first.

        ``source`` is ``personal`` for a user who was in the training; another is answered by what is popular, or
        with nothing if ``fallback`` is off.
        """
        parts = self.parts
        # The version is taken once: a model that is swapped meanwhile does not mix into this answer.
        model = parts.catalog.in_memory(model_id) or await parts.catalog.find(model_id)
        answer = model.recommend(user_id, n, exclude_seen=exclude_seen, fallback=fallback)
        items = [{"item_id": item, "score": score} for item, score in answer.items]
        return {
            "model_id": model_id,
            "user_id": user_id,
            "predictions": {user_id: items},
            "datetime": timestamp(parts.clock.now()),
            "status": "completed",
            "n_recommendations": len(items),
            "source": answer.source and answer.source.value,
            "model_version": model.model_version,
        }
