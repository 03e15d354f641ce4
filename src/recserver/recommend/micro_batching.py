"""Requests that come while others are answered wait, and are answered together, beside the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeVar

from recserver.core.errors import Draining
from recserver.recommend.batch_top_n import FEWEST
from recserver.recommend.cost_model import QUICK, asking, scoring, scoring_each
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.pipeline import Answer, recommend, recommended_many
from recserver.recommend.prepared_query import Prepared
from recserver.recommend.query import Query

T = TypeVar("T")
_Key = tuple[asyncio.AbstractEventLoop, Recommender]

MOST = 64
"""Requests that are answered together in a thread."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    user_id: str | None
    query: Query
    answer: asyncio.Future[Answer]


class Together:
    """Where answers are found. What takes long is found in threads of this object's own.

    Plain questions about a model that is scored quickly are answered on the event loop as soon as it has taken in
    what it has received: many in a row find code and factors in the processor's caches. Those about a larger one
    that come while others are being answered wait, and are answered together, so that they need one thread.
    There is no task behind it: a batch that ends begins the next. Requests that were given up are left out.
    """

    def __init__(self) -> None:
        workers = min(8, (os.cpu_count() or 1) + 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="recserver-answers")
        self._waiting: dict[_Key, list[_Asked]] = {}  # of those for which a batch is due or under way

    def close(self) -> None:
        """Begin nothing more. What is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def beside(self, look: Callable[..., T], *given: Any) -> T:
        """What ``look`` finds in a thread; it is not begun if whoever asks gives up before.

        Raises:
            Draining: if this is closed.
        """
        return await self._in_thread(asyncio.get_running_loop(), look, *given)

    async def looked(self, model: Recommender, query: Query, look: Callable[[], T]) -> T:
        """What ``look`` finds about a query, at once if that is quick.

        Raises:
            Draining: if this is closed.
        """
        milliseconds = scoring(model) + asking(model, query)
        return look() if milliseconds <= QUICK else await self.beside(look)

    async def recommend(self, model: Recommender, user_id: str | None, query: Query) -> Answer:
        """As :func:`recserver.recommend.pipeline.recommend`.

        Raises:
            InvalidInput: if the query asks for what the model does not know.
            Draining: if this is closed.
        """
        if asking(model, query) > 0:
            return await self.looked(model, query, lambda: recommend(model, user_id, query))
        loop = asyncio.get_running_loop()
        asked, key = _Asked(user_id, query, loop.create_future()), (loop, model)
        if key in self._waiting:
            self._waiting[key].append(asked)
        else:
            self._waiting[key] = [asked]
            self._begin(key)
        return await asked.answer

    def _begin(self, key: _Key) -> None:
        loop, model = key
        if (quick := int(QUICK / scoring_each(model))) >= FEWEST:
            loop.call_soon(self._at_once, key, quick)
            return
        batch = self._taken(key, MOST)
        try:
            work = self._in_thread(loop, _answers, model, batch)
        except Draining as error:
            self._end(key, batch, [error] * len(batch))
            return
        work.add_done_callback(lambda done: self._end(key, batch, _results(done, len(batch))))

    def _in_thread(
        self, loop: asyncio.AbstractEventLoop, look: Callable[..., T], *given: Any
    ) -> asyncio.Future[T]:
        try:
            return loop.run_in_executor(self._pool, look, *given)
        except RuntimeError:
            raise Draining("The server is closing.") from None

    def _at_once(self, key: _Key, most: int) -> None:
        batch = self._taken(key, most)
        self._end(key, batch, _answers(key[1], batch))

    def _taken(self, key: _Key, most: int) -> list[_Asked]:
        waiting = [one for one in self._waiting[key] if not one.answer.done()]
        self._waiting[key] = waiting[most:]
        return waiting[:most]

    def _end(self, key: _Key, batch: Sequence[_Asked], answers: Sequence[Answer | BaseException]) -> None:
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():
                continue
            if isinstance(answer, Answer):
                one.answer.set_result(answer)
            else:
                one.answer.set_exception(answer)
        if any(not one.answer.done() for one in self._waiting[key]):
            self._begin(key)
        else:
            del self._waiting[key]


def _results(done: asyncio.Future[list[Answer | Exception]], count: int) -> Sequence[Answer | BaseException]:
    if done.cancelled():
        return [Draining("The server is closing.")] * count
    error = done.exception()
    return done.result() if error is None else [error] * count


def _answers(model: Recommender, batch: Sequence[_Asked]) -> list[Answer | Exception]:
    """One for each; what one asks wrongly does not concern the others."""
    alike: dict[Query, list[_Asked]] = {}
    for one in batch:
        alike.setdefault(one.query, []).append(one)
    found = dict(pair for some in alike.values() for pair in _answers_alike(model, some))
    return [found[one] for one in batch]


def _answers_alike(model: Recommender, some: Sequence[_Asked]) -> Iterator[tuple[_Asked, Answer | Exception]]:
    try:
        answers = recommended_many(model, [one.user_id for one in some], Prepared.of(model, some[0].query))
    except Exception as error:
        return zip(some, repeat(error))
    return zip(some, answers, strict=True)
