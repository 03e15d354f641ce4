"""Threads for numerical work whose results do not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")


@contextmanager
def thread_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool; meanwhile BLAS uses one thread per call, because both at once are slow."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        yield pool


def run_in_threads(function: Callable[[T], None], arguments: Iterable[T], threads: int) -> None:
    """Call a function with each argument, up to ``threads`` at a time."""
    if threads == 1:
        for argument in arguments:
            function(argument)
        return
    with thread_pool(threads) as pool:
        list(pool.map(function, arguments))
