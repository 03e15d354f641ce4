"""``recserver serve``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from recserver.cli.surroundings import configure_logging, stop_signal
from recserver.server import RecServer
from recserver.settings import Settings, load_settings

logger = logging.getLogger(__name__)


def serve(data: Path, *, host: str | None, port: int | None) -> None:
    """Serve until SIGINT or SIGTERM, then let requests in flight finish."""
    settings = load_settings(host=host, port=port)
    configure_logging(settings.log_format)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(data, settings))


async def _serve(data: Path, settings: Settings) -> None:
    server = RecServer(data, settings)
    told_to_stop = stop_signal()
    async with server.serve() as url:
        logger.info("recserver listens on %s; data folder %s", url, server.data_dir.absolute())
        await told_to_stop.wait()
        logger.info("closing: requests in flight finish, trainings stop")
    logger.info("closed")
