"""Requests that come while others are answered wait, and are answered together, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from recserver.recommend.answering import Answer, recommend, recommend_many
from recserver.recommend.query import Query
from recserver.recommend.recommender import Recommender

MOST = 64
"""Requests that are answered together in a thread."""

MOST_AT_ONCE = 16
"""Requests that are answered together on the event loop, which takes about a millisecond."""

INLINE_CELLS = 2_000_000
"""Factors that are weighed on the event loop; more are weighed in a thread."""


def is_large(model: Recommender) -> bool:
    """Whether scoring all items takes so long that the event loop should not wait for it."""
    return max(model.item_factors.size, 20 * len(model.items)) > INLINE_CELLS


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    user_id: str | None
    query: Query
    answer: asyncio.Future[Answer]


class Together:
    """One batch at a time for each version of a model, of those who asked meanwhile.

    Large models are scored in a thread, which nobody waits for to fill up. Others are scored on the event loop as
    soon as it has taken in what it has received: many in a row find code and factors in the processor's caches.
    There is no task behind it: a batch that ends begins the next. Requests that were given up are left out.
    """

    def __init__(self) -> None:
        self._waiting: dict[Recommender, list[_Asked]] = {}  # of those for which a batch is due or under way

    async def recommend(self, model: Recommender, user_id: str | None, query: Query) -> Answer:
        """As :func:`recserver.recommend.answering.recommend`.

        Raises:
            InvalidInput: if the query asks for what the model does not know.
        """
        asked = _Asked(user_id, query, asyncio.get_running_loop().create_future())
        if model in self._waiting:
            self._waiting[model].append(asked)
        else:
            self._waiting[model] = [asked]
            self._begin(model)
        return await asked.answer

    def _begin(self, model: Recommender) -> None:
        loop = asyncio.get_running_loop()
        if not is_large(model):
            loop.call_soon(self._at_once, model)
            return
        batch = self._taken(model, MOST)
        work = loop.run_in_executor(None, _answers, model, batch)
        work.add_done_callback(lambda done: self._in_thread(model, batch, done))

    def _at_once(self, model: Recommender) -> None:
        batch = self._taken(model, MOST_AT_ONCE)
        _deliver(batch, _answers(model, batch))
        self._go_on(model)

    def _in_thread(
        self, model: Recommender, batch: list[_Asked], done: asyncio.Future[list[Answer | Exception]]
    ) -> None:
        if done.cancelled():
            for one in batch:
                one.answer.cancel()
        elif (failed := done.exception()) is not None:
            _deliver(batch, [failed] * len(batch))
        else:
            _deliver(batch, done.result())
        self._go_on(model)

    def _taken(self, model: Recommender, most: int) -> list[_Asked]:
        waiting = [one for one in self._waiting[model] if not one.answer.done()]
        self._waiting[model] = waiting[most:]
        return waiting[:most]

    def _go_on(self, model: Recommender) -> None:
        if any(not one.answer.done() for one in self._waiting[model]):
            self._begin(model)
        else:
            del self._waiting[model]


def _deliver(batch: Sequence[_Asked], answers: Sequence[Answer | BaseException]) -> None:
    for one, answer in zip(batch, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, Answer):
            one.answer.set_result(answer)
        else:
            one.answer.set_exception(answer)


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
