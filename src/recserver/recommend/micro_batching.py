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
from recserver.recommend.batch_top_n import MIN_BATCH
from recserver.recommend.cost_model import MAX_INLINE_MS, batched_scoring_ms, query_ms, scoring_ms
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.pipeline import Recommendations, recommend, recommend_many
from recserver.recommend.prepared_query import PreparedQuery
from recserver.recommend.query import Query

T = TypeVar("T")
_Key = tuple[asyncio.AbstractEventLoop, Recommender]

MAX_BATCH = 64
"""Requests that are answered together in a thread."""


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    user_id: str | None
    query: Query
    future: asyncio.Future[Recommendations]


class MicroBatcher:
    """Where answers are found. What takes long is found in threads of this object's own.

    Plain questions about a model that is scored quickly are answered on the event loop as soon as it has taken in
    what it has received: many in a row find code and factors in the processor's caches. Those about a larger one
    that come while others are being answered wait, and are answered together, so that they need one thread.
    There is no task behind it: a batch that ends begins the next. Requests that were given up are left out.
    """

    def __init__(self) -> None:
        workers = min(8, (os.cpu_count() or 1) + 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="recserver-answers")
        self._queues: dict[_Key, list[_Request]] = {}  # of those for which a batch is due or under way

    def close(self) -> None:
        """Begin nothing more. What is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run_in_thread(self, work: Callable[..., T], *given: Any) -> T:
        """What ``look`` finds in a thread; it is not begun if whoever asks gives up before.

        Raises:
            Draining: if this is closed.
        """
        return await self._submit(asyncio.get_running_loop(), work, *given)

    async def run_query(self, model: Recommender, query: Query, work: Callable[[], T]) -> T:
        """What ``look`` finds about a query, at once if that is quick.

        Raises:
            Draining: if this is closed.
        """
        milliseconds = scoring_ms(model) + query_ms(model, query)
        return work() if milliseconds <= MAX_INLINE_MS else await self.run_in_thread(work)

    async def recommend(self, model: Recommender, user_id: str | None, query: Query) -> Recommendations:
        """As :func:`recserver.recommend.pipeline.recommend`.

        Raises:
            InvalidInput: if the query asks for what the model does not know.
            Draining: if this is closed.
        """
        if query_ms(model, query) > 0:
            return await self.run_query(model, query, lambda: recommend(model, user_id, query))
        loop = asyncio.get_running_loop()
        asked, key = _Request(user_id, query, loop.create_future()), (loop, model)
        if key in self._queues:
            self._queues[key].append(asked)
        else:
            self._queues[key] = [asked]
            self._start_batch(key)
        return await asked.future

    def _start_batch(self, key: _Key) -> None:
        loop, model = key
        if (quick := int(MAX_INLINE_MS / batched_scoring_ms(model))) >= MIN_BATCH:
            loop.call_soon(self._run_inline, key, quick)
            return
        batch = self._take_batch(key, MAX_BATCH)
        try:
            work = self._submit(loop, _answer_batch, model, batch)
        except Draining as error:
            self._finish_batch(key, batch, [error] * len(batch))
            return
        work.add_done_callback(lambda done: self._finish_batch(key, batch, _results(done, len(batch))))

    def _submit(self, loop: asyncio.AbstractEventLoop, work: Callable[..., T], *given: Any) -> asyncio.Future[T]:
        try:
            return loop.run_in_executor(self._pool, work, *given)
        except RuntimeError:
            raise Draining("The server is closing.") from None

    def _run_inline(self, key: _Key, max_size: int) -> None:
        batch = self._take_batch(key, max_size)
        self._finish_batch(key, batch, _answer_batch(key[1], batch))

    def _take_batch(self, key: _Key, max_size: int) -> list[_Request]:
        waiting = [one for one in self._queues[key] if not one.future.done()]
        self._queues[key] = waiting[max_size:]
        return waiting[:max_size]

    def _finish_batch(
        self, key: _Key, batch: Sequence[_Request], answers: Sequence[Recommendations | BaseException]
    ) -> None:
        for one, answer in zip(batch, answers, strict=True):
            if one.future.done():
                continue
            if isinstance(answer, Recommendations):
                one.future.set_result(answer)
            else:
                one.future.set_exception(answer)
        if any(not one.future.done() for one in self._queues[key]):
            self._start_batch(key)
        else:
            del self._queues[key]


def _results(
    done: asyncio.Future[list[Recommendations | Exception]], count: int
) -> Sequence[Recommendations | BaseException]:
    if done.cancelled():
        return [Draining("The server is closing.")] * count
    error = done.exception()
    return done.result() if error is None else [error] * count


def _answer_batch(model: Recommender, batch: Sequence[_Request]) -> list[Recommendations | Exception]:
    """One for each; what one asks wrongly does not concern the others."""
    alike: dict[Query, list[_Request]] = {}
    for one in batch:
        alike.setdefault(one.query, []).append(one)
    found = dict(pair for some in alike.values() for pair in _answer_same_query(model, some))
    return [found[one] for one in batch]


def _answer_same_query(
    model: Recommender, requests: Sequence[_Request]
) -> Iterator[tuple[_Request, Recommendations | Exception]]:
    try:
        answers = recommend_many(
            model, [one.user_id for one in requests], PreparedQuery.for_model(model, requests[0].query)
        )
    except Exception as error:
        return zip(requests, repeat(error))
    return zip(requests, answers, strict=True)
