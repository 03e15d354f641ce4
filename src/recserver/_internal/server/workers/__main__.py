"""A serving process, one of several on a port, started by :mod:`recserver._internal.server.workers.supervisor`.

It writes ``ready`` to standard output once it serves. SIGTERM closes it, even if sent repeatedly. SIGINT is
ignored, because the supervisor handles it. The process ends when the supervisor ends.
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

from recserver._internal.core.child_process import kill_with_parent
from recserver._internal.core.errors import RecServerError
from recserver._internal.server.settings import Settings
from recserver._internal.server.sockets import allow_sharing, listen, listen_unix
from recserver._internal.server.workers.change_feed import Followers, follow
from recserver._internal.server.workers.process_setup import (
    configure_logging,
    exit_with_error,
    freeze_gc,
    replace_unencodable,
)
from recserver._internal.server.workers.worker_config import Role, WorkerConfig

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until SIGTERM."""
    config = WorkerConfig.model_validate_json(sys.argv[1])
    kill_with_parent(config.supervisor_pid)
    replace_unencodable()
    supervisor = _redirect_stdout()
    try:
        settings = config.settings()
        configure_logging(settings.log_format)
        asyncio.run(_serve(config, settings, supervisor))
    except RecServerError as error:
        exit_with_error(error)


def _redirect_stdout() -> TextIO:
    """Redirect standard output to standard error, so that prints do not reach the pipe to the supervisor."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return pipe


async def _serve(config: WorkerConfig, settings: Settings, supervisor: TextIO) -> None:
    stop_requested = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop_requested.set)
    listener = await asyncio.to_thread(_listen_then_share, settings) if config.first else None

    async def bind() -> Sequence[socket.socket]:
        shared = await asyncio.to_thread(listen, settings, shared=True) if listener is None else listener
        if config.role is Role.WRITER:
            return shared, await asyncio.to_thread(listen_unix, config.request_socket)
        return (shared,)

    serve = {Role.WRITER: _serve_writer, Role.FOLLOWER: _serve_follower, Role.READER: _serve_reader}
    async with serve[config.role](config, settings, bind):
        freeze_gc()
        with supervisor:
            supervisor.write("ready\n")
        await stop_requested.wait()


def _listen_then_share(settings: Settings) -> socket.socket:
    listener = listen(settings)
    allow_sharing(listener)
    return listener


Bind = Callable[[], Awaitable[Sequence[socket.socket]]]


@asynccontextmanager
async def _serve_writer(config: WorkerConfig, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver._internal.server.http.writer_proxy import Peers
    from recserver._internal.server.rec_server import RecServer

    server, followers = RecServer(config.data_dir, settings), Followers()
    server.lock_holder = config.supervisor_pid  # the process to stop to release the folder
    async with AsyncExitStack() as stack:

        async def bind_among_followers() -> Sequence[socket.socket]:
            """Bind after the followers have connected, so that they serve all changes made by requests."""
            server._services.model_cache.on_change = followers.notify_change
            await stack.enter_async_context(followers.listen(config.change_socket))
            await followers.wait_connected(0 if config.first else config.workers - 1)
            return await bind()

        async with server.serve_on(bind_among_followers, Peers(wait_settled=followers.wait_settled)):
            yield


@asynccontextmanager
async def _serve_follower(config: WorkerConfig, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver._internal.core.clock import SystemClock
    from recserver._internal.server.http.writer_proxy import Peers, WriterClient
    from recserver._internal.server.rec_server import RecServer
    from recserver._internal.training.executors.process_pool import ProcessExecutor

    server = RecServer(
        config.data_dir, settings, executor=ProcessExecutor(1)
    )  # never used: it starts no worker before the first job
    async with server, WriterClient(config.request_socket) as writer, asyncio.TaskGroup() as group:
        model_cache, connected = server._services.model_cache, asyncio.Event()

        async def leave_to_writer(model_id: str) -> bool:
            """Unload a damaged model, so that requests are forwarded to the writer, which repairs it."""
            if model_cache.is_loaded(model_id):
                model_cache.remove(model_id)
            return False

        model_cache.on_damage = leave_to_writer
        following = group.create_task(follow(config.change_socket, model_cache.refresh, SystemClock(), connected))
        await connected.wait()  # the writer waits only for connected followers
        async with server.serve_on(bind, Peers(writer)):
            yield
        following.cancel()


@asynccontextmanager
async def _serve_reader(config: WorkerConfig, settings: Settings, bind: Bind) -> AsyncIterator[None]:
    from recserver._internal.server.rec_server import RecServer

    async with RecServer(config.data_dir, settings).serve_on(bind):
        yield


if __name__ == "__main__":
    main()
