"""One worker process for all tests of the conformance suite of data chefs, each of which would start one."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.jobs import Preview, PreviewJob
from recserver.testing import _chef_suite as chef_suite


class SharedExecutor:
    """An executor whose worker process stays when it is closed. Its event loop runs in a thread of its own."""

    def __init__(self, executor: ProcessExecutor, loop: asyncio.AbstractEventLoop) -> None:
        self._executor = executor
        self._loop = loop

    async def preview(self, job: PreviewJob) -> Preview:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._executor.preview(job), self._loop))

    async def close(self) -> None:
        """The worker serves the next test."""


@contextmanager
def one_worker_serves_all_tests() -> Iterator[None]:
    """The suite's tests use one worker process, which starts with the first that needs it.

    They also collect garbage before they count open files, which is quick if only new objects are looked at.
    """
    gc.collect()
    gc.freeze()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    executor = ProcessExecutor(1, priority="low")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chef_suite, "ProcessExecutor", lambda *_, **__: SharedExecutor(executor, loop))
        yield
    asyncio.run_coroutine_threadsafe(executor.close(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
