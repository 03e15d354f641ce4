"""A serving process, one of several on a port. It is started by :mod:`recserver.server.workers.supervisor`.

It says ``ready`` on standard output once it answers. SIGTERM closes it, however often that comes. It is started
with Ctrl-C ignored, which is for the supervisor alone, with which it ends in any case.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TextIO

from recserver.core.child_process import kill_with_parent
from recserver.core.errors import RecServerError
from recserver.server.settings import Settings
from recserver.server.sockets import allow_sharing, listen, listen_unix
from recserver.server.workers.change_feed import Followers, follow
from recserver.server.workers.process_setup import (
    configure_logging,
    exit_with_error,
    freeze_gc,
    replace_unencodable,
)
from recserver.server.workers.worker_config import Role, WorkerConfig

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until told to stop."""
    place = WorkerConfig.from_json(sys.argv[1])
    kill_with_parent(place.supervisor_pid)
    replace_unencodable()
    supervisor = _redirect_stdout()
    try:
        settings = place.settings()
        configure_logging(settings.log_format)
        asyncio.run(_serve(place, settings, supervisor))
    except RecServerError as error:
        exit_with_error(error)


def _redirect_stdout() -> TextIO:
    """The pipe to the supervisor, where nothing but this module finds it: whoever prints gets the log."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return pipe


async def _serve(place: WorkerConfig, settings: Settings, supervisor: TextIO) -> None:
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    listener = await asyncio.to_thread(_listen_then_share, settings) if place.first else None

    async def bind() -> Sequence[socket.socket]:
        found = await asyncio.to_thread(listen, settings, shared=True) if listener is None else listener
        if place.role is Role.WRITER:
            return found, await asyncio.to_thread(listen_unix, place.request_socket)
        return (found,)

    async with _SERVE_BY_ROLE[place.role](place, settings, bind):
        freeze_gc()
        with supervisor:
            supervisor.write("ready\n")
        await told_to_stop.wait()


def _listen_then_share(settings: Settings) -> socket.socket:
    listener = listen(settings)
    allow_sharing(listener)
    return listener


Bind = Callable[[], Awaitable[Sequence[socket.socket]]]


@asynccontextmanager
async def _serve_writer(place: WorkerConfig, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver.server.http.writer_proxy import Peers
    from recserver.server.rec_server import RecServer

    server, followers = RecServer(place.data_dir, settings), Followers()
    server.lock_holder = place.supervisor_pid  # stopping this process would not free the folder
    async with AsyncExitStack() as stack:

        async def bind_among_followers() -> Sequence[socket.socket]:
            """Whoever is answered by a writer that is back must find what it does taken up."""
            server.services.model_cache.on_change = followers.notify_change
            await stack.enter_async_context(followers.listen(place.change_socket))
            await followers.wait_connected(0 if place.first else place.workers - 1)
            return await bind()

        async with server.serve_on(bind_among_followers, Peers(wait_settled=followers.wait_settled)):
            yield


@asynccontextmanager
async def _serve_follower(place: WorkerConfig, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver.core.clock import SystemClock
    from recserver.server.http.writer_proxy import Peers, WriterClient
    from recserver.server.rec_server import RecServer
    from recserver.training.executors.process_pool import ProcessExecutor

    server = RecServer(place.data_dir, settings, executor=ProcessExecutor(1))  # it never has anything to do
    async with server, WriterClient(place.request_socket) as writer, asyncio.TaskGroup() as group:
        catalog, abreast = server.services.model_cache, asyncio.Event()

        async def leave_to_the_writer(model_id: str) -> bool:
            """A model whose file is damaged or missing is asked of the writer, which mends it."""
            if catalog.is_loaded(model_id):
                catalog.remove(model_id)
            return False

        catalog.on_damage = leave_to_the_writer
        following = group.create_task(follow(place.change_socket, catalog.refresh, SystemClock(), abreast))
        await abreast.wait()  # the writer waits for nobody whom it does not know
        async with server.serve_on(bind, Peers(writer)):
            yield
        following.cancel()


@asynccontextmanager
async def _serve_reader(place: WorkerConfig, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver.server.rec_server import RecServer

    async with RecServer(place.data_dir, settings).serve_on(bind):
        yield


_SERVE_BY_ROLE = {Role.WRITER: _serve_writer, Role.FOLLOWER: _serve_follower, Role.READER: _serve_reader}

if __name__ == "__main__":
    main()
