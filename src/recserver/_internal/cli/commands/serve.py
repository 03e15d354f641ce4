"""``recserver serve``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from recserver._internal.cli.command import new_app
from recserver._internal.server.settings import load_settings
from recserver._internal.server.workers.process_setup import configure_logging, freeze_gc, stop_event
from recserver._internal.storage.folder_lock import require_unlocked

if TYPE_CHECKING:
    from recserver._internal.server.rec_server import RecServer

logger = logging.getLogger(__name__)

app = new_app()


@app.command()
def serve(
    data: Annotated[
        Path, Option(envvar="RECSERVER_DATA", help="Folder with models/, tasks/ and config/; created if missing.")
    ] = Path("data"),
    host: Annotated[
        str | None, Option(help="Address to listen on [127.0.0.1]. Any but loopback needs RECSERVER_API_KEY.")
    ] = None,
    port: Annotated[int | None, Option(help="Port to listen on [9999]; 0 for a free one.")] = None,
    read_only: Annotated[
        bool,
        Option("--read-only", help="Serve the folder and change nothing, also next to a server that writes it."),
    ] = False,
    workers: Annotated[
        int | None, Option(help="Processes that share the port [1]: one writes the folder, the others follow it.")
    ] = None,
) -> None:
    """Train on schedule and answer over HTTP until stopped.

    Every setting is also an environment variable: see docs/settings.md. SIGINT and SIGTERM let requests in flight
    finish. The exit status is 3 if another server uses the data folder.
    """
    settings = load_settings(host=host, port=port, read_only=read_only or None, workers=workers)
    configure_logging(settings.log_format)
    if not settings.read_only:
        require_unlocked(data)  # before the half second that importing a server takes
    if settings.workers > 1:
        from recserver._internal.server.workers.supervisor import supervise

        sys.exit(asyncio.run(supervise(data.absolute(), settings)))

    from recserver._internal.server.rec_server import RecServer

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(RecServer(data, settings)))


async def _serve(server: RecServer) -> None:
    stopped = stop_event()
    async with server.serve() as url:
        freeze_gc()
        mode = ", read-only" if server.read_only else ""
        logger.info("recserver listens on %s; data folder %s%s", url, server.data_dir.absolute(), mode)
        await stopped.wait()
        logger.info("closing: requests in flight finish, trainings stop")
    logger.info("closed")
