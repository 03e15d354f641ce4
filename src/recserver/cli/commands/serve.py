"""``recserver serve``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recserver.server.settings import load_settings
from recserver.server.workers.process_setup import configure_logging, freeze_gc, stop_event
from recserver.storage.folder_lock import require_unlocked

if TYPE_CHECKING:
    from recserver.server.rec_server import RecServer

logger = logging.getLogger(__name__)


def serve(data: Path, **given: Any) -> None:
    """Serve until SIGINT or SIGTERM, then let requests in flight finish.

    Args:
        given: settings that come before those of the environment, where they are not None.
    """
    settings = load_settings(**given)
    configure_logging(settings.log_format)
    if not settings.read_only:
        require_unlocked(data)  # before the half second that importing a server takes
    if settings.workers > 1:
        from recserver.server.workers.supervisor import supervise

        sys.exit(asyncio.run(supervise(data.absolute(), settings)))

    from recserver.server.rec_server import RecServer

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(RecServer(data, settings)))


async def _serve(server: RecServer) -> None:
    told_to_stop = stop_event()
    async with server.serve() as url:
        freeze_gc()
        how = ", read-only" if server.read_only else ""
        logger.info("recserver listens on %s; data folder %s%s", url, server.data_dir.absolute(), how)
        await told_to_stop.wait()
        logger.info("closing: requests in flight finish, trainings stop")
    logger.info("closed")
