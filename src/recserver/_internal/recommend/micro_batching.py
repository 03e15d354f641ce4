"""Micro-batching: requests that arrive while others are being answered are answered together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from recserver._internal.core.errors import Draining
from recserver._internal.recommend.batch_top_n import MIN_BATCH
from recserver._internal.recommend.latency_estimate import MAX_INLINE_MS, batched_scoring_ms, query_ms, scoring_ms
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import Answer, recommend, recommend_many
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query

T = TypeVar("T")
Key = tuple[asyncio.AbstractEventLoop, Recommender]
Answers = Sequence[Answer | BaseException]

MAX_BATCH = 64
"""Requests that a thread answers together at most."""


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    user_id: str | None
    query: Query
    future: asyncio.Future[Answer]


class MicroBatcher:
    """Computes answers, on the event loop or in threads of its own.

    Plain requests to a small model are answered on the event loop after it has read all that it received: many in
    a row find code and factors in the processor's caches. Plain requests to a large model wait while a batch of
    the same model is computed in a thread, and form the next batch. No background task is needed: the end of a
    batch starts the next one. Cancelled requests are skipped.
    """

    def __init__(self) -> None:
        workers = min(8, (os.cpu_count() or 1) + 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="recserver-answers")
        self._queues: dict[Key, list[_Request]] = {}  # an entry exists while a batch is scheduled or running

    def close(self) -> None:
        """Start no more work. Running threads finish by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run_in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """The result of ``work(*args)``, computed in a thread; not started if the caller is cancelled before.

        Raises:
            Draining: if the batcher is closed.
        """
        return await self._submit(asyncio.get_running_loop(), work, *args)

    async def run_query(self, model: Recommender, query: Query, work: Callable[[], T]) -> T:
        """The result of ``work()``, which answers a query: computed at once if that is quick, else in a thread.

        Raises:
            Draining: if the batcher is closed.
        """
        milliseconds = scoring_ms(model) + query_ms(model, query)
        return work() if milliseconds <= MAX_INLINE_MS else await self.run_in_thread(work)

    async def recommend(self, model: Recommender, user_id: str | None, query: Query) -> Answer:
        """As :func:`recserver._internal.recommend.pipeline.recommend`.

        Raises:
            InvalidInput: if the model cannot answer the query.
            Draining: if the batcher is closed.
        """
        if query_ms(model, query) > 0:
            return await self.run_query(model, query, lambda: recommend(model, user_id, query))
        loop = asyncio.get_running_loop()
        request, key = _Request(user_id, query, loop.create_future()), (loop, model)
        if key in self._queues:
            self._queues[key].append(request)
        else:
            self._queues[key] = [request]
            self._start_batch(key)
        return await request.future

    def _submit(self, loop: asyncio.AbstractEventLoop, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        try:
            return loop.run_in_executor(self._pool, work, *args)
        except RuntimeError:
            refused: asyncio.Future[T] = loop.create_future()
            refused.set_exception(_draining())
            return refused

    def _start_batch(self, key: Key) -> None:
        loop, model = key
        if (max_size := int(MAX_INLINE_MS / batched_scoring_ms(model))) >= MIN_BATCH:
            loop.call_soon(self._run_inline, key, max_size)
            return
        batch = self._take_batch(key, MAX_BATCH)
        self._submit(loop, _answer_batch, model, batch).add_done_callback(
            lambda done: self._finish_batch(
                key, batch, _draining() if done.cancelled() else done.exception() or done.result()
            )
        )

    def _run_inline(self, key: Key, max_size: int) -> None:
        batch = self._take_batch(key, max_size)
        self._finish_batch(key, batch, _answer_batch(key[1], batch))

    def _take_batch(self, key: Key, max_size: int) -> list[_Request]:
        waiting = [request for request in self._queues[key] if not request.future.done()]
        self._queues[key] = waiting[max_size:]
        return waiting[:max_size]

    def _finish_batch(self, key: Key, batch: Sequence[_Request], outcome: Answers | BaseException) -> None:
        answers = [outcome] * len(batch) if isinstance(outcome, BaseException) else outcome
        for request, answer in zip(batch, answers, strict=True):
            if request.future.done():
                continue
            if isinstance(answer, BaseException):
                request.future.set_exception(answer)
            else:
                request.future.set_result(answer)
        if any(not request.future.done() for request in self._queues[key]):
            self._start_batch(key)
        else:
            del self._queues[key]


def _draining() -> Draining:
    return Draining("The server is closing.")


def _answer_batch(model: Recommender, batch: Sequence[_Request]) -> Answers:
    """The answer to each request, or the error that it alone gets."""
    by_query: dict[Query, list[_Request]] = {}
    for request in batch:
        by_query.setdefault(request.query, []).append(request)
    answers: dict[_Request, Answer | BaseException] = {}
    for query, requests in by_query.items():
        users = [request.user_id for request in requests]
        try:
            answers |= zip(
                requests, recommend_many(model, users, PreparedQuery.for_model(model, query)), strict=True
            )
        except Exception as error:
            answers |= dict.fromkeys(requests, error)
    return [answers[request] for request in batch]
