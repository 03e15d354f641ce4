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

from recserver.core.child_process import die_with
from recserver.core.errors import RecServerError
from recserver.server.settings import Settings
from recserver.server.sockets import listen, listen_privately, share
from recserver.server.workers.change_feed import Followers, follow
from recserver.server.workers.process_setup import (
    configure_logging,
    pass_over_what_is_there,
    refuse,
    write_whatever_comes,
)
from recserver.server.workers.worker_config import Place, Role

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until told to stop."""
    place = Place.read(sys.argv[1])
    die_with(place.supervisor)
    write_whatever_comes()
    supervisor = _own_output()
    try:
        settings = place.settings()
        configure_logging(settings.log_format)
        asyncio.run(_serve(place, settings, supervisor))
    except RecServerError as error:
        refuse(error)


def _own_output() -> TextIO:
    """The pipe to the supervisor, where nothing but this module finds it: whoever prints gets the log."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return pipe


async def _serve(place: Place, settings: Settings, supervisor: TextIO) -> None:
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    listener = await asyncio.to_thread(_listen_alone, settings) if place.first else None

    async def bind() -> Sequence[socket.socket]:
        found = await asyncio.to_thread(listen, settings, beside=True) if listener is None else listener
        if place.role is Role.WRITER:
            return found, await asyncio.to_thread(listen_privately, place.requests)
        return (found,)

    async with _SERVING[place.role](place, settings, bind):
        pass_over_what_is_there()
        with supervisor:
            supervisor.write("ready\n")
        await told_to_stop.wait()


def _listen_alone(settings: Settings) -> socket.socket:
    listener = listen(settings)
    share(listener)
    return listener


Bind = Callable[[], Awaitable[Sequence[socket.socket]]]


@asynccontextmanager
async def _writing(place: Place, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver.server.http.writer_proxy import Company
    from recserver.server.rec_server import RecServer

    server, followers = RecServer(place.data, settings), Followers()
    server.holder = place.supervisor  # stopping this process would not free the folder
    async with AsyncExitStack() as stack:

        async def bind_among_followers() -> Sequence[socket.socket]:
            """Whoever is answered by a writer that is back must find what it does taken up."""
            server.parts.catalog.on_change = followers.changed
            await stack.enter_async_context(followers.listening(place.changes))
            await followers.gathered(0 if place.first else place.workers - 1)
            return await bind()

        async with server.serve_at(bind_among_followers, Company(settled=followers.settled)):
            yield


@asynccontextmanager
async def _following(place: Place, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver.core.clock import SystemClock
    from recserver.server.http.writer_proxy import Company, Writer
    from recserver.server.rec_server import RecServer
    from recserver.training.executors.process_pool import ProcessExecutor

    server = RecServer(place.data, settings, executor=ProcessExecutor(1))  # it never has anything to do
    async with server, Writer(place.requests) as writer, asyncio.TaskGroup() as group:
        catalog, abreast = server.parts.catalog, asyncio.Event()

        async def leave_to_the_writer(model_id: str) -> bool:
            """A model whose file is damaged or missing is asked of the writer, which mends it."""
            if catalog.is_loaded(model_id):
                catalog.drop(model_id)
            return False

        catalog.on_damage = leave_to_the_writer
        following = group.create_task(follow(place.changes, catalog.look_again, SystemClock(), abreast))
        await abreast.wait()  # the writer waits for nobody whom it does not know
        async with server.serve_at(bind, Company(writer)):
            yield
        following.cancel()


@asynccontextmanager
async def _reading(place: Place, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver.server.rec_server import RecServer

    async with RecServer(place.data, settings).serve_at(bind):
        yield


_SERVING = {Role.WRITER: _writing, Role.FOLLOWER: _following, Role.READER: _reading}

if __name__ == "__main__":
    main()
