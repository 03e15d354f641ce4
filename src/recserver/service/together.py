"""Requests that come while others are answered wait, and are answered together, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from recserver.recommend.answering import Answer, recommend, recommend_many
from recserver.recommend.query import Query
from recserver.recommend.recommender import Recommender

MOST = 64
"""Requests that are answered together."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    user_id: str | None
    query: Query
    answer: asyncio.Future[Answer]


class Together:
    """One batch at a time for each version of a model. Nobody waits for a batch to fill up.

    There is no task behind it: a batch that ends begins the next, and requests that were given up are left out.
    """

    def __init__(self) -> None:
        self._waiting: dict[Recommender, list[_Asked]] = {}  # of those for which a batch is under way

    async def recommend(self, model: Recommender, user_id: str | None, query: Query) -> Answer:
        """As :func:`recserver.recommend.answering.recommend`.

        Raises:
            InvalidInput: if the query asks for what the model does not know.
        """
        asked = _Asked(user_id, query, asyncio.get_running_loop().create_future())
        if model in self._waiting:
            self._waiting[model].append(asked)
        else:
            self._begin(model, [asked], [])
        return await asked.answer

    def _begin(self, model: Recommender, batch: list[_Asked], rest: list[_Asked]) -> None:
        self._waiting[model] = rest
        work = asyncio.get_running_loop().run_in_executor(None, _answers, model, batch)
        work.add_done_callback(lambda done: self._deliver(model, batch, done))

    def _deliver(
        self, model: Recommender, batch: list[_Asked], done: asyncio.Future[list[Answer | Exception]]
    ) -> None:
        failed = asyncio.CancelledError() if done.cancelled() else done.exception()
        answers = [failed] * len(batch) if failed is not None else done.result()
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():
                continue
            if isinstance(answer, Answer):
                one.answer.set_result(answer)
            elif isinstance(answer, asyncio.CancelledError):
                one.answer.cancel()
            else:
                one.answer.set_exception(answer)
        waiting = [one for one in self._waiting.pop(model) if not one.answer.done()]
        if waiting:
            self._begin(model, waiting[:MOST], waiting[MOST:])


def _answers(model: Recommender, batch: Sequence[_Asked]) -> list[Answer | Exception]:
    """One for each; what one asks wrongly does not concern the others."""
    try:
        return list(recommend_many(model, [(one.user_id, one.query) for one in batch]))
    except Exception:
        return [_answer(model, one) for one in batch]


def _answer(model: Recommender, asked: _Asked) -> Answer | Exception:
    try:
        return recommend(model, asked.user_id, asked.query)
    except Exception as error:
        return error
